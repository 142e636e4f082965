package hyrex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	hyrexv1 "hyrex.dev/gen/hyrex/v1"
)

// Handler executes one run: JSON in, JSON out. Its context ends when the run must stop (cancelled,
// timed out, revoked, not trusted any more); context.Cause tells why. Go cannot stop a function by
// force: one that ignores its context keeps its slot.
type Handler func(ctx context.Context, run *Assignment) ([]byte, error)

// JSON makes a handler of a function: A is a struct of the task's parameters, R what it returns.
func JSON[A, R any](function func(context.Context, A) (R, error)) Handler {
	return func(ctx context.Context, run *Assignment) ([]byte, error) {
		var arguments A
		if run.Codec != "" || !isJSON(run.ContentType) {
			return nil, Final(fmt.Errorf("payload of %s is %s %s, not plain JSON", run.Name, run.ContentType, run.Codec))
		}
		if err := json.Unmarshal(run.Payload, &arguments); err != nil {
			return nil, Final(fmt.Errorf("payload of %s: %w", run.Name, err))
		}
		result, err := function(ctx, arguments)
		if err != nil {
			return nil, err
		}
		encoded, err := json.Marshal(result)
		if err != nil {
			return nil, Final(err)
		}
		return encoded, nil
	}
}

type runKey struct{}

// RunFrom is the run that a handler's context belongs to.
func RunFrom(ctx context.Context) *Assignment {
	return ctx.Value(runKey{}).(*Assignment)
}

// WorkerConfig says what a worker is. Only URLs is required.
type WorkerConfig struct {
	URLs     string // brokers, grpc://host:port or grpcs://host:port, separated by commas; tried in turn
	Token    string
	Name     string   // for people; the host's name by default
	Queues   []string // names or patterns; all by default
	Capacity int      // runs at once, 10 by default
	Log      *slog.Logger
}

// Worker runs tasks for one session, which outlives streams and brokers.
type Worker struct {
	config   WorkerConfig
	handlers map[string]Handler
	tasks    []*hyrexv1.TaskDefinition
	wake     chan struct{} // something is to be sent
	welcomed chan struct{} // closed at the first Welcome
	left     chan struct{} // closed when Run returns

	mu       sync.Mutex
	session  session
	capacity int32
	held     map[int64]*lease // received and not yet acknowledged as reported
	waiting  []*lease         // not started: no trust just now, or a run that wants to be alone
	running  int
	alone    bool
	draining bool
}

// lease is the right to one run.
type lease struct {
	*Assignment
	stop  context.CancelCauseFunc // nil until it starts
	ended bool                    // its report is on its way
}

// NewWorker makes a worker; nothing happens before Run.
func NewWorker(config WorkerConfig) *Worker {
	host, _ := os.Hostname()
	if config.Name == "" {
		config.Name = host
	}
	if len(config.Queues) == 0 {
		config.Queues = []string{"*"}
	}
	if config.Capacity == 0 {
		config.Capacity = 10
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	return &Worker{
		config: config, handlers: map[string]Handler{}, held: map[int64]*lease{}, capacity: int32(config.Capacity),
		wake: make(chan struct{}, 1), welcomed: make(chan struct{}), left: make(chan struct{}),
	}
}

// Handle registers a function, before Run.
func (w *Worker) Handle(name string, handler Handler) {
	w.handlers[name] = handler
	w.tasks = append(w.tasks, &hyrexv1.TaskDefinition{Name: name})
}

// SetCapacity changes how many runs it takes at once; 0 pauses it.
func (w *Worker) SetCapacity(runs int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.capacity, w.session.capacitySaid = int32(runs), false
	w.poke()
}

// Drain takes no new work, finishes what runs and leaves the session; Run returns then. When ctx ends
// first, what still runs is stopped and given back at no cost, and Drain returns the context's error.
func (w *Worker) Drain(ctx context.Context) error {
	w.leave()
	select {
	case <-w.left:
		return nil
	case <-ctx.Done():
		w.mu.Lock()
		defer w.mu.Unlock()
		w.stopRuns(errLeaving)
		return ctx.Err()
	}
}

func (w *Worker) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.draining = true
	for _, waiting := range w.waiting {
		w.end(waiting, released(false, errLeaving))
	}
	w.waiting = nil
	w.poke()
}

// Welcomed is closed once a broker has accepted the worker.
func (w *Worker) Welcomed() <-chan struct{} { return w.welcomed }

// SessionID names the session that it has now.
func (w *Worker) SessionID() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.session.id
}

// poke wakes the writer.
func (w *Worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// The functions below are called with w.mu held.

// receive takes new leases.
func (w *Worker) receive(runs []*Assignment) {
	for _, run := range runs {
		received := &lease{Assignment: run}
		w.held[run.Token] = received
		if w.draining {
			w.end(received, released(false, errLeaving))
		} else {
			w.waiting = append(w.waiting, received)
		}
	}
	w.start()
}

// start starts what may run now. Nothing starts that is not trusted.
func (w *Worker) start() {
	for len(w.waiting) > 0 && w.session.trusted() && !w.alone && !(w.waiting[0].Alone && w.running > 0) {
		next := w.waiting[0]
		w.waiting = w.waiting[1:]
		w.running++
		w.alone = next.Alone
		ctx, stop := context.WithCancelCause(context.WithValue(context.Background(), runKey{}, next.Assignment))
		next.stop = stop
		go w.execute(ctx, next)
	}
}

// execute runs user code and reports how it ended.
func (w *Worker) execute(ctx context.Context, run *lease) {
	defer run.stop(nil)
	if run.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, run.Timeout, errTimeout)
		defer stop()
	}
	began := time.Now()
	result, trace, err := call(ctx, w.handlers[run.Name], run.Assignment)
	end := outcome(context.Cause(ctx), result, trace, err)
	end.Elapsed = durationpb.New(time.Since(began))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running--
	w.alone = false
	w.end(run, end)
	w.start()
}

func call(ctx context.Context, handler Handler, run *Assignment) (result []byte, trace string, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			trace, err = string(debug.Stack()), fmt.Errorf("panic: %v", panicked)
		}
	}()
	if handler == nil {
		return nil, "", Final(fmt.Errorf("this worker has no task %q", run.Name))
	}
	if err := bind(run); err != nil {
		return nil, "", Final(err)
	}
	result, err = handler(ctx, run)
	return result, "", err
}

// outcome says how a run ended: a returned value counts whatever was asked meanwhile.
func outcome(cause error, result []byte, trace string, err error) *ending {
	var stopped cancelled
	var word verdict
	if said := (*verdict)(nil); errors.As(err, &said) {
		word, err = *said, said.error
	}
	raised := func() *hyrexv1.RunError {
		return &hyrexv1.RunError{Type: typeName(err), Message: err.Error(), Traceback: trace}
	}
	switch {
	case err == nil && len(result) > messageBytes-1<<20:
		err, word.final = fmt.Errorf("a result of %d bytes does not fit in a frame", len(result)), true
	case err == nil:
		return &ending{RunReport: &hyrexv1.RunReport{}, returned: true, result: result}
	case errors.As(cause, &stopped):
		return &ending{RunReport: &hyrexv1.RunReport{Outcome: &hyrexv1.RunReport_Cancelled{Cancelled: &hyrexv1.Cancelled{Reason: stopped.reason}}}}
	case errors.Is(cause, errTimeout):
		return &ending{RunReport: &hyrexv1.RunReport{Outcome: &hyrexv1.RunReport_TimedOut{TimedOut: &hyrexv1.TimedOut{Error: raised()}}}}
	case cause != nil:
		return released(true, cause)
	}
	failed := &hyrexv1.Failed{Error: raised(), Retryable: !word.final}
	if word.delay > 0 {
		failed.RetryDelay = durationpb.New(word.delay)
	}
	return &ending{RunReport: &hyrexv1.RunReport{Outcome: &hyrexv1.RunReport_Failed{Failed: failed}}}
}

// typeName is the type of an error, below what fmt.Errorf has wrapped around it.
func typeName(err error) string {
	name := fmt.Sprintf("%T", err)
	if inner := errors.Unwrap(err); inner != nil && strings.HasPrefix(name, "*fmt.") {
		return typeName(inner)
	}
	return name
}

func released(started bool, why error) *ending {
	outcome := &hyrexv1.RunReport_Released{Released: &hyrexv1.Released{Started: started, Reason: why.Error()}}
	return &ending{RunReport: &hyrexv1.RunReport{Outcome: outcome}}
}

// end hands an ending to the session, unless the lease is void.
func (w *Worker) end(run *lease, end *ending) {
	if w.held[run.Token] != run {
		return
	}
	run.ended = true
	end.TaskId, end.Token = run.TaskID, run.Token
	w.session.ended = append(w.session.ended, end)
	w.poke()
}

// stopLease asks one run to stop; an unstarted one is over at once.
func (w *Worker) stopLease(token int64, cause error) {
	run := w.held[token]
	if run == nil || run.ended {
		return
	}
	if errors.Is(cause, errRevoked) {
		delete(w.held, token)
	}
	if run.stop != nil {
		run.stop(cause)
		return
	}
	w.waiting = slices.DeleteFunc(w.waiting, func(other *lease) bool { return other == run })
	w.end(run, outcome(cause, nil, "", cause))
}

// stopRuns asks everything that runs to stop.
func (w *Worker) stopRuns(cause error) {
	for token, run := range w.held {
		if run.stop != nil || errors.Is(cause, errRevoked) {
			w.stopLease(token, cause)
		}
	}
}
