package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"hyrex.dev/hyrex"
)

// crew is the agent's one worker with what it has executed.
type crew struct {
	urls   string
	token  string
	worker *hyrex.Worker
	end    context.CancelFunc
	left   chan struct{}

	mu       sync.Mutex
	executed []string
	failure  error
}

// ConformanceError is what the behaviours raise.
type ConformanceError struct{ message string }

func (e ConformanceError) Error() string { return e.message }

// arguments are what the behaviours look for in their payload.
type arguments struct {
	Value        json.RawMessage `json:"value"`
	A            json.RawMessage `json:"a"`
	B            json.RawMessage `json:"b"`
	Message      string          `json:"message"`
	RetryDelayMs int64           `json:"retry_delay_ms"`
	DelayMs      int64           `json:"delay_ms"`
	Ms           int64           `json:"ms"`
}

var behaviours = map[string]func(context.Context, arguments) (any, error){
	"echo": func(_ context.Context, given arguments) (any, error) {
		if given.Value == nil {
			return nil, nil
		}
		return given.Value, nil
	},
	"pair": func(_ context.Context, given arguments) (any, error) {
		return []json.RawMessage{given.A, given.B}, nil
	},
	"fail": func(_ context.Context, given arguments) (any, error) {
		return nil, hyrex.RetryAfter(ConformanceError{given.Message}, time.Duration(given.RetryDelayMs)*time.Millisecond)
	},
	"fail_final": func(_ context.Context, given arguments) (any, error) {
		return nil, hyrex.Final(ConformanceError{given.Message})
	},
	"retry_after": func(ctx context.Context, given arguments) (any, error) {
		attempt := hyrex.RunFrom(ctx).AttemptNumber
		if attempt == 0 {
			return nil, hyrex.RetryAfter(ConformanceError{"not yet"}, time.Duration(given.DelayMs)*time.Millisecond)
		}
		return object{"attempt_number": attempt}, nil
	},
	"sleep": func(ctx context.Context, given arguments) (any, error) {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(time.Duration(given.Ms) * time.Millisecond):
			return object{"slept": given.Ms}, nil
		}
	},
	"attempt": func(ctx context.Context, _ arguments) (any, error) {
		run := hyrex.RunFrom(ctx)
		return object{"task_id": run.TaskID, "run_number": run.RunNumber, "attempt_number": run.AttemptNumber}, nil
	},
	"headers": func(ctx context.Context, _ arguments) (any, error) {
		return texts(hyrex.RunFrom(ctx).Headers), nil
	},
}

func (c *crew) start(ctx context.Context, told command, line []byte) (any, error) {
	var names struct {
		Tasks map[string]string `json:"tasks"`
	}
	if err := json.Unmarshal(line, &names); err != nil {
		return nil, err
	}
	worker := hyrex.NewWorker(hyrex.WorkerConfig{
		URLs: c.urls, Token: c.token, Name: told.Name, Queues: told.Queues, Capacity: told.Capacity,
	})
	for name, behaviour := range names.Tasks {
		function, known := behaviours[behaviour]
		if !known {
			return nil, &hyrex.Error{Code: codes.Unimplemented, Reason: "UNKNOWN_OP", Message: "behaviour " + behaviour}
		}
		handler := hyrex.JSON(function)
		worker.Handle(name, func(ctx context.Context, run *hyrex.Assignment) ([]byte, error) {
			c.mu.Lock()
			c.executed = append(c.executed, run.TaskID)
			c.mu.Unlock()
			return handler(ctx, run)
		})
	}
	alive, end := context.WithCancel(context.Background())
	left := make(chan struct{})
	c.worker, c.end, c.left = worker, end, left
	go func() {
		defer close(left)
		c.failure = worker.Run(alive)
	}()
	select {
	case <-worker.Welcomed():
		return object{"session_id": worker.SessionID()}, nil
	case <-left:
		return nil, c.failure
	case <-ctx.Done():
		end()
		return nil, &hyrex.Error{Code: codes.DeadlineExceeded, Message: "no Welcome"}
	}
}

func (c *crew) stats() object {
	c.mu.Lock()
	defer c.mu.Unlock()
	running := c.left != nil
	select {
	case <-c.left:
		running = false
	default:
	}
	return object{"executed": append([]string{}, c.executed...), "running": running}
}

func (c *crew) drain(ctx context.Context) error {
	if c.worker == nil {
		return fmt.Errorf("there is no worker")
	}
	if err := c.worker.Drain(ctx); err != nil {
		return err
	}
	<-c.left
	return c.failure
}

func (c *crew) stop() error {
	if c.worker == nil {
		return fmt.Errorf("there is no worker")
	}
	c.end()
	<-c.left
	return nil
}
