package hyrex

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	hyrexv1 "hyrex.dev/gen/hyrex/v1"
)

const mostItems = 1000

// Client submits tasks and follows them. It is safe for concurrent use; every error is an *Error.
type Client struct {
	conn      *grpc.ClientConn
	tasks     hyrexv1.TaskServiceClient
	workflows hyrexv1.WorkflowServiceClient
}

// NewClient makes a client of the first broker that answers of these, grpc://host:port each, separated
// by commas. It connects when first used. A call that no broker answers is repeated some times, while its
// context lasts.
func NewClient(urls, token string, options ...grpc.DialOption) (*Client, error) {
	conn, err := dial(urls, token, options...)
	if err != nil {
		return nil, err
	}
	return &Client{conn, hyrexv1.NewTaskServiceClient(conn), hyrexv1.NewWorkflowServiceClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// NewTask is a task with a new id in the queue "default"; args is a struct or a map of the
// parameters. Set further options on what it returns before submitting it.
func NewTask(name string, args any) (*hyrexv1.NewTask, error) {
	payload, err := json.Marshal(args)
	return &hyrexv1.NewTask{TaskId: NewID(), Name: name, Queue: "default", Payload: payload}, err
}

// Submit stores one task durably and returns its id: that of the first task, where its
// idempotency key had been used. Repeating it with the same task is harmless.
func (c *Client) Submit(ctx context.Context, task *hyrexv1.NewTask) (string, error) {
	results, err := c.SubmitBatch(ctx, []*hyrexv1.NewTask{task})
	if err != nil {
		return "", err
	}
	return results[0].TaskId, ItemError(results[0])
}

// SubmitBatch stores up to 1,000 tasks; see ItemError for each result.
func (c *Client) SubmitBatch(ctx context.Context, tasks []*hyrexv1.NewTask) ([]*hyrexv1.SubmitResult, error) {
	response, err := repeated(ctx, c.tasks.SubmitTasks, &hyrexv1.SubmitTasksRequest{Tasks: tasks})
	return response.GetResults(), err
}

// SubmitStream keeps many frames of tasks under way at once, each answered after its commit.
type SubmitStream struct {
	stream  grpc.BidiStreamingClient[hyrexv1.StreamSubmitRequest, hyrexv1.StreamSubmitResponse]
	sending sync.Mutex
	last    int64
	mu      sync.Mutex
	waiting map[int64]chan *hyrexv1.StreamSubmitResponse
	ended   chan struct{}
	err     error
}

// OpenStream begins a stream of submits; ctx bounds its whole life.
func (c *Client) OpenStream(ctx context.Context) (*SubmitStream, error) {
	stream, err := c.tasks.StreamSubmit(ctx)
	if err != nil {
		return nil, refusal(err)
	}
	s := &SubmitStream{stream: stream, waiting: map[int64]chan *hyrexv1.StreamSubmitResponse{}, ended: make(chan struct{})}
	go s.read()
	return s, nil
}

func (s *SubmitStream) read() {
	defer close(s.ended)
	for {
		answer, err := s.stream.Recv()
		if err == io.EOF {
			err = status.Error(codes.Unavailable, "the broker ended the stream")
		}
		if err != nil {
			s.err = refusal(err)
			return
		}
		s.mu.Lock()
		if waiting := s.waiting[answer.Sequence]; waiting != nil {
			waiting <- answer
		}
		delete(s.waiting, answer.Sequence)
		s.mu.Unlock()
	}
}

// Send sends a frame of up to 1,000 tasks and returns at once; call what it returns for the results.
// Where that fails it is unknown what was stored. If the error MayPass, submit the same tasks again, over a new
// stream.
func (s *SubmitStream) Send(tasks []*hyrexv1.NewTask) func() ([]*hyrexv1.SubmitResult, error) {
	answer := make(chan *hyrexv1.StreamSubmitResponse, 1)
	s.sending.Lock()
	defer s.sending.Unlock()
	s.last++
	s.mu.Lock()
	s.waiting[s.last] = answer
	s.mu.Unlock()
	groups, order := groupsOf(tasks)
	// A failed send is told by the reader.
	_ = s.stream.Send(&hyrexv1.StreamSubmitRequest{Sequence: s.last, Groups: groups})
	return func() ([]*hyrexv1.SubmitResult, error) {
		select {
		case response := <-answer:
			return resultsOf(tasks, order, response), nil
		case <-s.ended:
			if len(answer) > 0 {
				return resultsOf(tasks, order, <-answer), nil
			}
			return nil, s.err
		}
	}
}

// groupsOf puts tasks of equal terms together; order says which task is at each place of the frame.
func groupsOf(tasks []*hyrexv1.NewTask) (groups []*hyrexv1.TaskGroup, order []int) {
	known := map[string]int{}
	var members [][]int
	for at, task := range tasks {
		terms := proto.Clone(task).(*hyrexv1.NewTask)
		terms.TaskId, terms.Payload, terms.Headers, terms.IdempotencyKey = "", nil, nil, ""
		key, _ := proto.MarshalOptions{Deterministic: true}.Marshal(terms)
		place, found := known[string(key)]
		if !found {
			place = len(groups)
			known[string(key)] = place
			groups = append(groups, &hyrexv1.TaskGroup{Terms: terms})
			members = append(members, nil)
		}
		group := groups[place]
		group.TaskIds = append(group.TaskIds, packedID(task.TaskId)...)
		group.Payloads = append(group.Payloads, task.Payload)
		members[place] = append(members[place], at)
	}
	for place, group := range groups {
		fillColumns(group, tasks, members[place])
	}
	return groups, slices.Concat(members...)
}

// fillColumns leaves out what no task of the group has.
func fillColumns(group *hyrexv1.TaskGroup, tasks []*hyrexv1.NewTask, members []int) {
	if slices.ContainsFunc(members, func(at int) bool { return len(tasks[at].Headers) > 0 }) {
		for _, at := range members {
			group.Headers = append(group.Headers, &hyrexv1.Headers{Headers: tasks[at].Headers})
		}
	}
	if slices.ContainsFunc(members, func(at int) bool { return tasks[at].IdempotencyKey != "" }) {
		for _, at := range members {
			group.IdempotencyKeys = append(group.IdempotencyKeys, tasks[at].IdempotencyKey)
		}
	}
}

// packedID is the 16 bytes of an id. What is none becomes zeros, which the broker refuses, alone.
func packedID(id string) []byte {
	packed, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(packed) != 16 {
		return make([]byte, 16)
	}
	return packed
}

// resultsOf gives every task its result: those that an answer does not name are stored now.
func resultsOf(tasks []*hyrexv1.NewTask, order []int, answer *hyrexv1.StreamSubmitResponse) []*hyrexv1.SubmitResult {
	results := make([]*hyrexv1.SubmitResult, len(tasks))
	for at, task := range tasks {
		results[at] = &hyrexv1.SubmitResult{TaskId: task.TaskId, Outcome: hyrexv1.SubmitOutcome_SUBMIT_OUTCOME_STORED}
	}
	for _, placed := range answer.Results {
		results[order[placed.Place]] = placed.Result
	}
	return results
}

// Close says that no more will be sent; what was sent is still answered.
func (s *SubmitStream) Close() error { return s.stream.CloseSend() }

// Get looks a task up, with its payload and all of its runs.
func (c *Client) Get(ctx context.Context, id string) (*hyrexv1.Task, error) {
	response, err := repeated(ctx, c.tasks.GetTask, &hyrexv1.GetTaskRequest{TaskId: id})
	return response.GetTask(), err
}

// List lists tasks, newest first, page by page.
func (c *Client) List(ctx context.Context, request *hyrexv1.ListTasksRequest) (*hyrexv1.ListTasksResponse, error) {
	return repeated(ctx, c.tasks.ListTasks, request)
}

// Cancel asks for up to 1,000 tasks to end. Once answered, a cancelled task never runs again.
func (c *Client) Cancel(ctx context.Context, reason string, ids ...string) ([]*hyrexv1.CancelResult, error) {
	response, err := repeated(ctx, c.tasks.CancelTasks, &hyrexv1.CancelTasksRequest{TaskIds: ids, Reason: reason})
	return response.GetResults(), err
}

// Retry makes up to 1,000 finished tasks run once more.
func (c *Client) Retry(ctx context.Context, ids ...string) ([]*hyrexv1.RetryResult, error) {
	response, err := repeated(ctx, c.tasks.RetryTasks, &hyrexv1.RetryTasksRequest{TaskIds: ids})
	return response.GetResults(), err
}

// Dismiss takes up to 1,000 dead letters off their list.
func (c *Client) Dismiss(ctx context.Context, ids ...string) ([]*hyrexv1.DismissResult, error) {
	response, err := repeated(ctx, c.tasks.DismissTasks, &hyrexv1.DismissTasksRequest{TaskIds: ids})
	return response.GetResults(), err
}

// Complete ends up to 1,000 tasks that wait for a call from outside, all in the way that the request says.
func (c *Client) Complete(ctx context.Context, request *hyrexv1.CompleteTasksRequest) ([]*hyrexv1.CompleteResult, error) {
	response, err := repeated(ctx, c.tasks.CompleteTasks, request)
	return response.GetResults(), err
}

// Replay stores a new task like an earlier one; see ItemError for the result. Repeating it with the same
// new id is harmless.
func (c *Client) Replay(ctx context.Context, request *hyrexv1.ReplayTaskRequest) (*hyrexv1.SubmitResult, error) {
	response, err := repeated(ctx, c.tasks.ReplayTask, request)
	return response.GetResult(), err
}

// Schedules are the calls of schedules as they are generated; ErrorOf makes an *Error of theirs.
func (c *Client) Schedules() hyrexv1.ScheduleServiceClient {
	return hyrexv1.NewScheduleServiceClient(c.conn)
}

// ErrorOf is the *Error of a generated call's error; nil of nil.
func ErrorOf(err error) error { return refusal(err) }

// Wait watches tasks until all are final, or ctx ends: then it returns what it knows of them with the error.
func (c *Client) Wait(ctx context.Context, ids ...string) (map[string]*hyrexv1.Task, error) {
	known := make(map[string]*hyrexv1.Task, len(ids))
	for start := 0; start < len(ids); start += mostItems {
		some := ids[start:min(start+mostItems, len(ids))]
		for failures := 0; ; failures++ {
			heard, err := c.watch(ctx, some, known)
			if err == nil {
				break
			}
			if !errors.Is(err, io.EOF) && !refusal(err).(*Error).MayPass() {
				return known, refusal(err)
			}
			if heard {
				failures = 0
			}
			if !pause(ctx, backoff(failures)) {
				return known, refusal(ctx.Err())
			}
		}
	}
	return known, nil
}

// watch follows one stream; nil once all are final.
func (c *Client) watch(ctx context.Context, ids []string, known map[string]*hyrexv1.Task) (heard bool, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stream, err := c.tasks.WatchTasks(ctx, &hyrexv1.WatchTasksRequest{TaskIds: ids})
	for err == nil {
		var frame *hyrexv1.WatchTasksResponse
		if frame, err = stream.Recv(); err == nil {
			heard = true
			for _, task := range frame.Tasks {
				known[task.TaskId] = task
			}
		}
	}
	for _, id := range ids {
		if !IsFinal(known[id]) {
			return heard, err
		}
	}
	return heard, nil
}

// IsFinal tells whether a task has ended. A status that this version does not know is not final.
func IsFinal(task *hyrexv1.Task) bool {
	status := task.GetStatus()
	switch status {
	case hyrexv1.TaskStatus_TASK_STATUS_COMPLETED, hyrexv1.TaskStatus_TASK_STATUS_FAILED,
		hyrexv1.TaskStatus_TASK_STATUS_TIMED_OUT, hyrexv1.TaskStatus_TASK_STATUS_CANCELLED,
		hyrexv1.TaskStatus_TASK_STATUS_LOST:
		return true
	}
	return false
}

// Result decodes what a final task returned. The error is a *TaskError where it did not complete.
func Result[R any](task *hyrexv1.Task) (result R, err error) {
	var last *hyrexv1.TaskRun
	if len(task.Runs) > 0 {
		last = task.Runs[len(task.Runs)-1]
	}
	if task.Status != hyrexv1.TaskStatus_TASK_STATUS_COMPLETED {
		return result, &TaskError{task, last}
	}
	return result, json.Unmarshal(last.Result, &result)
}
