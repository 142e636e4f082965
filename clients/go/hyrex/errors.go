package hyrex

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	hyrexv1 "hyrex.dev/gen/hyrex/v1"
)

// Reason is one of hyrexv1.ErrorReason without its prefix; errors.Is(err, hyrex.Reason("TASK_NOT_FOUND")).
type Reason string

func (r Reason) Error() string { return string(r) }

// Error is what the broker refused, whether a whole call or one item of a batch. Reason and
// Metadata are empty where it was not the broker that spoke.
type Error struct {
	Code     codes.Code
	Reason   Reason
	Message  string
	Metadata map[string]string
}

func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%s: %s", e.Reason, e.Message)
}

// Unwrap makes errors.Is match the reason.
func (e *Error) Unwrap() error { return e.Reason }

// GRPCStatus makes status.Code and friends work on it.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

// refusal turns a call's error into an *Error, with the google.rpc details it carries.
func refusal(err error) error {
	if err == nil {
		return nil
	}
	said, ok := status.FromError(err)
	if !ok {
		said = status.FromContextError(err)
	}
	refused := &Error{Code: said.Code(), Message: said.Message()}
	for _, detail := range said.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			refused.Reason, refused.Metadata = Reason(info.Reason), info.Metadata
		}
	}
	return refused
}

// ItemError is why one item of a batch was refused; nil where it was not.
func ItemError(result *hyrexv1.SubmitResult) error {
	if refused := result.GetError(); refused != nil {
		return &Error{codes.Code(refused.Code), Reason(refused.Reason), refused.Message, refused.Metadata}
	}
	return nil
}

// TaskError says that a task ended otherwise than by completing.
type TaskError struct {
	Task *hyrexv1.Task
	Run  *hyrexv1.TaskRun // its last run; nil if there was none
}

func (e *TaskError) Error() string {
	text := fmt.Sprintf("task %s (%s): %s", e.Task.TaskId, e.Task.Name, e.Task.Status)
	if raised := e.Run.GetError(); raised != nil {
		return fmt.Sprintf("%s: %s: %s", text, raised.Type, raised.Message)
	}
	return text + " " + e.Run.GetReason()
}

// verdict is an error of a handler with its word on a retry.
type verdict struct {
	error
	final bool
	delay time.Duration
}

func (v *verdict) Unwrap() error { return v.error }

// Final fails a run for good: no retry, whatever the task allows.
func Final(err error) error { return &verdict{error: err, final: true} }

// RetryAfter fails a run and says when to try again, if a retry remains.
func RetryAfter(err error, delay time.Duration) error { return &verdict{error: err, delay: delay} }

var (
	errRevoked   = errors.New("the broker has given this run to somebody else")
	errUntrusted = errors.New("no heartbeat was acknowledged in time")
	errLeaving   = errors.New("the worker leaves")
	errTimeout   = fmt.Errorf("the task's timeout passed: %w", context.DeadlineExceeded)
)

// cancelled is the cause of the context of a run that somebody cancelled.
type cancelled struct{ reason string }

func (c cancelled) Error() string { return "cancelled: " + c.reason }
