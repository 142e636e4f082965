package hyrex

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// attempts is how often a call is tried in all.
const attempts = 6

// MayPass tells whether the same call may be made again, at another broker or later: one that answered has lost
// its database or goes away, or none answered. gRPC tells the latter as Unavailable, for some broken connections
// as Unknown, Internal or Canceled, and never with a reason.
func (e *Error) MayPass() bool {
	cut := []codes.Code{codes.Unavailable, codes.Unknown, codes.Internal, codes.Canceled}
	return e.Reason == "STORAGE_UNAVAILABLE" || e.Reason == "DRAINING" || e.Reason == "" && slices.Contains(cut, e.Code)
}

// repeated makes a call, again where that may pass and ctx still lasts: a task id submitted twice is one task.
func repeated[Q, A any](
	ctx context.Context, call func(context.Context, Q, ...grpc.CallOption) (A, error), request Q,
) (A, error) {
	for failures := 1; ; failures++ {
		answer, err := call(ctx, request)
		if err == nil {
			return answer, nil
		}
		refused := refusal(err).(*Error)
		if !refused.MayPass() || failures == attempts || !pause(ctx, backoff(failures)) {
			return answer, refused
		}
	}
}

// backoff is how long to wait after some failures in a row: at first almost nothing, in the end 5 s.
func backoff(failures int) time.Duration {
	longest := min(50*time.Millisecond<<min(failures, 7), 5*time.Second)
	return time.Duration((0.25 + 0.75*rand.Float64()) * float64(longest))
}

// pause waits; false if the context ended first.
func pause(ctx context.Context, wait time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait):
		return true
	}
}
