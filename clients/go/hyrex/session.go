package hyrex

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	hyrexv1 "hyrex.dev/gen/hyrex/v1"
)

const (
	welcomeWithin = 10 * time.Second
	leastMargin   = 100 * time.Millisecond
)

// session is what a worker keeps from stream to stream. Trust is reckoned on Go's monotonic clock.
type session struct {
	id              string
	secret          []byte
	terms           *hyrexv1.Welcome
	receivedThrough int64
	beats           int64
	beatSent        map[int64]time.Time
	trustUntil      time.Time
	trustTimer      *time.Timer

	ended      []*ending         // to be framed
	reports    []*hyrexv1.Report // unacknowledged
	lastReport int64

	// Of the stream that lives now:
	sent         int // how many of the reports it has carried
	nextBeat     time.Time
	lastRead     time.Time
	capacitySaid bool
	drainSaid    bool
	goodbyeSaid  bool
}

// Run serves the brokers until the worker has left after Drain, or because a broker asked it to (nil),
// or a broker refuses it for good (an *Error). When ctx ends it stops at once and without a word, as a
// crash would: its leases expire.
func (w *Worker) Run(ctx context.Context) error {
	defer close(w.left)
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.stopRuns(errRevoked)
	}()
	urls := strings.Split(w.config.URLs, ",")
	for place, failures := 0, 0; ; place++ {
		url := urls[place%len(urls)]
		welcomed, err := w.serve(ctx, url)
		w.mu.Lock()
		left := w.session.goodbyeSaid
		w.mu.Unlock()
		switch refused := (*Error)(nil); {
		case left:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &refused):
			switch refused.Reason {
			case "PROTOCOL_UNSUPPORTED", "TOKEN_INVALID", "INVALID_FIELD", "TOO_MANY_ITEMS":
				return err
			case "SESSION_ENDED", "SESSION_TAKEN_OVER", "SESSION_SECRET_INVALID":
				w.mu.Lock()
				w.session.id, w.session.secret = "", nil
				w.stopRuns(errRevoked)
				w.mu.Unlock()
			}
		}
		if failures++; welcomed {
			failures = 0
		}
		w.config.Log.Info("stream ended", "broker", url, "why", err)
		if !pause(ctx, backoff(failures)) {
			return ctx.Err()
		}
	}
}

type workStream = hyrexv1.WorkerService_WorkClient

// serve lives one stream.
func (w *Worker) serve(ctx context.Context, url string) (welcomed bool, err error) {
	ctx, cut := context.WithCancelCause(ctx)
	var writer sync.WaitGroup
	defer writer.Wait()
	defer cut(nil)
	conn, err := dial(url, w.config.Token)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	late := time.AfterFunc(welcomeWithin, func() { cut(errors.New("no answer to Hello")) })
	defer late.Stop()
	stream, err := hyrexv1.NewWorkerServiceClient(conn).Work(ctx)
	if err != nil {
		return false, refusal(err)
	}
	sentAt := time.Now()
	if err = stream.Send(&hyrexv1.WorkRequest{Frame: &hyrexv1.WorkRequest_Hello{Hello: w.hello()}}); err != nil && err != io.EOF {
		return false, refusal(err)
	}
	for {
		var frame *hyrexv1.WorkResponse
		if frame, err = stream.Recv(); err != nil {
			break
		}
		if welcome := frame.GetWelcome(); welcome != nil && !welcomed {
			welcomed = true
			late.Stop()
			w.begin(welcome, sentAt)
			writer.Add(1)
			go func() {
				defer writer.Done()
				w.write(ctx, stream, cut)
			}()
		}
		w.take(frame, cut)
	}
	if cause := context.Cause(ctx); cause != nil {
		return welcomed, cause
	}
	if err == io.EOF {
		return welcomed, err
	}
	return welcomed, refusal(err)
}

func (w *Worker) hello() *hyrexv1.Hello {
	w.mu.Lock()
	defer w.mu.Unlock()
	host, _ := os.Hostname()
	hello := &hyrexv1.Hello{
		WorkerName: w.config.Name, Host: host, Pid: int32(os.Getpid()), Sdk: Version, ProtocolVersion: 1,
		QueuePatterns: w.config.Queues, Tasks: w.tasks, Capacity: w.pools(),
		SessionId: w.session.id, SessionSecret: w.session.secret, ReceivedThrough: w.session.receivedThrough,
	}
	for token, run := range w.held {
		hello.Held = append(hello.Held, &hyrexv1.LeaseRef{TaskId: run.TaskID, Token: token})
	}
	w.session.capacitySaid = true
	return hello
}

func (w *Worker) pools() []*hyrexv1.PoolCapacity {
	if w.draining {
		return []*hyrexv1.PoolCapacity{{}}
	}
	return []*hyrexv1.PoolCapacity{{Maximum: w.capacity}}
}

// begin takes what Welcome says. What is not resumed is void.
func (w *Worker) begin(welcome *hyrexv1.Welcome, sentAt time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.session
	if !welcome.Resumed || welcome.SessionId != s.id {
		w.stopRuns(errRevoked)
		s.receivedThrough, s.beats, s.trustUntil = 0, 0, time.Time{}
	}
	s.id, s.secret, s.terms = welcome.SessionId, welcome.SessionSecret, welcome
	s.sent, s.drainSaid, s.nextBeat, s.lastRead, s.beatSent = 0, false, time.Time{}, time.Now(), map[int64]time.Time{}
	for _, ref := range welcome.Revoked {
		w.stopLease(ref.Token, errRevoked)
	}
	w.trust(sentAt)
	select {
	case <-w.welcomed:
	default:
		close(w.welcomed)
	}
}
