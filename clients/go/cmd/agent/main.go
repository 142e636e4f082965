// Command agent is the conformance agent of this client: tests/conformance/AGENT.md is its contract.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc/codes"

	hyrexv1 "hyrex.dev/gen/hyrex/v1"
	"hyrex.dev/hyrex"
)

type object = map[string]any

// command is one line of stdin; its fields are those of every op.
type command struct {
	ID        any      `json:"id"`
	Op        string   `json:"op"`
	Stream    bool     `json:"stream"`
	TaskID    string   `json:"task_id"`
	TaskIDs   []string `json:"task_ids"`
	TimeoutMs int64    `json:"timeout_ms"`
	Reason    string   `json:"reason"`
	Queue     string   `json:"queue"`
	Name      string   `json:"name"`
	Statuses  []string `json:"statuses"`
	PageSize  int32    `json:"page_size"`
	PageToken string   `json:"page_token"`
	Queues    []string `json:"queues"`
	Capacity  int      `json:"capacity"`
}

type agent struct {
	client *hyrex.Client
	crew   *crew
}

func main() {
	urls, token := os.Getenv("HYREX_BROKER_URL"), os.Getenv("HYREX_TOKEN")
	client, err := hyrex.NewClient(urls, token)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	a := &agent{client: client, crew: &crew{urls: urls, token: token}}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	_ = out.Encode(object{"ready": true, "language": "go", "client": hyrex.Version})
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		_ = out.Encode(a.answer(line))
	}
}

func (a *agent) answer(line []byte) object {
	var told command
	if err := json.Unmarshal(line, &told); err != nil {
		return object{"id": told.ID, "error": refused(err)}
	}
	done, err := a.obey(told, line)
	if err != nil {
		return object{"id": told.ID, "error": refused(err)}
	}
	return object{"id": told.ID, "ok": done}
}

func (a *agent) obey(told command, line []byte) (any, error) {
	limit := 10 * time.Second
	if told.Op == "worker_drain" {
		limit = time.Minute
	}
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	switch told.Op {
	case "submit":
		return a.submit(ctx, told, line)
	case "get":
		task, err := a.client.Get(ctx, told.TaskID)
		return object{"task": taskObject(task)}, err
	case "list":
		return a.list(ctx, told)
	case "wait":
		return a.wait(told)
	case "cancel":
		results, err := a.client.Cancel(ctx, told.Reason, told.TaskIDs...)
		return object{"results": outcomes(results)}, err
	case "retry":
		results, err := a.client.Retry(ctx, told.TaskIDs...)
		return object{"results": outcomes(results)}, err
	case "dismiss":
		results, err := a.client.Dismiss(ctx, told.TaskIDs...)
		return object{"results": outcomes(results)}, err
	case "complete":
		return a.complete(ctx, told, line)
	case "submit_workflow":
		return a.submitWorkflow(ctx, line)
	case "get_workflow":
		return a.getWorkflow(ctx, told)
	case "replay":
		return a.replay(ctx, told, line)
	case "schedule_put", "schedule_get", "schedule_pause", "schedule_trigger", "schedule_delete":
		done, err := a.schedule(ctx, told, line)
		return done, hyrex.ErrorOf(err)
	case "worker_start":
		return a.crew.start(ctx, told, line)
	case "worker_stats":
		return a.crew.stats(), nil
	case "worker_drain":
		return object{}, a.crew.drain(ctx)
	case "worker_stop":
		return object{}, a.crew.stop()
	}
	return nil, &hyrex.Error{Code: codes.Unimplemented, Reason: "UNKNOWN_OP", Message: told.Op}
}

func (a *agent) submit(ctx context.Context, told command, line []byte) (any, error) {
	tasks, err := parseTasks(line)
	if err != nil {
		return nil, err
	}
	var results []*hyrexv1.SubmitResult
	if !told.Stream {
		results, err = a.client.SubmitBatch(ctx, tasks)
	} else {
		results, err = a.streamed(ctx, tasks)
	}
	said := make([]object, len(results))
	for place, result := range results {
		said[place] = submittedObject(result)
	}
	return object{"results": said}, err
}

func submittedObject(result *hyrexv1.SubmitResult) object {
	said := object{"task_id": result.GetTaskId(), "outcome": short(result.GetOutcome()), "error": nil}
	if item := hyrex.ItemError(result); item != nil {
		said["error"] = refused(item)
	}
	return said
}

func (a *agent) replay(ctx context.Context, told command, line []byte) (any, error) {
	var given struct {
		NewTaskID string          `json:"new_task_id"`
		Payload   json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(line, &given); err != nil {
		return nil, err
	}
	if given.NewTaskID == "" {
		given.NewTaskID = hyrex.NewID()
	}
	request := &hyrexv1.ReplayTaskRequest{TaskId: told.TaskID, NewTaskId: given.NewTaskID, Payload: given.Payload}
	result, err := a.client.Replay(ctx, request)
	if err != nil {
		return nil, err
	}
	return object{"result": submittedObject(result)}, nil
}

// streamed sends tasks over a stream, and all of them over another where it breaks.
func (a *agent) streamed(ctx context.Context, tasks []*hyrexv1.NewTask) ([]*hyrexv1.SubmitResult, error) {
	for left := 5; ; left-- {
		results, err := a.stream(ctx, tasks)
		if said := (*hyrex.Error)(nil); left == 0 || !errors.As(err, &said) || !said.MayPass() {
			return results, err
		}
	}
}

func (a *agent) stream(ctx context.Context, tasks []*hyrexv1.NewTask) (all []*hyrexv1.SubmitResult, err error) {
	stream, err := a.client.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var answers []func() ([]*hyrexv1.SubmitResult, error)
	for start := 0; start < len(tasks); start += 100 {
		answers = append(answers, stream.Send(tasks[start:min(start+100, len(tasks))]))
	}
	for _, answer := range answers {
		results, err := answer()
		if err != nil {
			return nil, err
		}
		all = append(all, results...)
	}
	return all, nil
}

func (a *agent) list(ctx context.Context, told command) (any, error) {
	request := &hyrexv1.ListTasksRequest{
		Queue: told.Queue, Name: told.Name, PageSize: told.PageSize, PageToken: told.PageToken,
	}
	for _, status := range told.Statuses {
		request.Statuses = append(request.Statuses, hyrexv1.TaskStatus(hyrexv1.TaskStatus_value["TASK_STATUS_"+status]))
	}
	page, err := a.client.List(ctx, request)
	tasks := make([]object, len(page.GetTasks()))
	for place, task := range page.GetTasks() {
		tasks[place] = taskObject(task)
	}
	return object{"tasks": tasks, "next_page_token": page.GetNextPageToken()}, err
}

func (a *agent) wait(told command) (any, error) {
	ctx, stop := context.WithTimeout(context.Background(), time.Duration(told.TimeoutMs)*time.Millisecond)
	defer stop()
	known, err := a.client.Wait(ctx, told.TaskIDs...)
	if err != nil && ctx.Err() == nil {
		return nil, err
	}
	tasks := []object{}
	for _, id := range told.TaskIDs {
		if task := known[id]; task != nil {
			tasks = append(tasks, taskObject(task))
		}
	}
	return object{"done": err == nil, "tasks": tasks}, nil
}

func refused(err error) object {
	var said *hyrex.Error
	if !errors.As(err, &said) {
		said = &hyrex.Error{Code: codes.Unknown, Message: err.Error()}
	}
	metadata := said.Metadata
	if metadata == nil {
		metadata = map[string]string{}
	}
	return object{"code": codeNames[said.Code], "reason": said.Reason, "message": said.Message, "metadata": metadata}
}
