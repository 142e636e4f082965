package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	hyrexv1 "hyrex.dev/gen/hyrex/v1"
	"hyrex.dev/hyrex"
)

var codeNames = map[codes.Code]string{
	codes.OK: "OK", codes.Canceled: "CANCELLED", codes.Unknown: "UNKNOWN", codes.InvalidArgument: "INVALID_ARGUMENT",
	codes.DeadlineExceeded: "DEADLINE_EXCEEDED", codes.NotFound: "NOT_FOUND", codes.AlreadyExists: "ALREADY_EXISTS",
	codes.PermissionDenied: "PERMISSION_DENIED", codes.ResourceExhausted: "RESOURCE_EXHAUSTED",
	codes.FailedPrecondition: "FAILED_PRECONDITION", codes.Aborted: "ABORTED", codes.OutOfRange: "OUT_OF_RANGE",
	codes.Unimplemented: "UNIMPLEMENTED", codes.Internal: "INTERNAL", codes.Unavailable: "UNAVAILABLE",
	codes.DataLoss: "DATA_LOSS", codes.Unauthenticated: "UNAUTHENTICATED",
}

// submitted is one TASK of a submit.
type submitted struct {
	TaskID         *string           `json:"task_id"`
	Name           string            `json:"name"`
	Queue          *string           `json:"queue"`
	Payload        json.RawMessage   `json:"payload"`
	PayloadBase64  []byte            `json:"payload_base64"`
	ContentType    string            `json:"content_type"`
	Priority       int32             `json:"priority"`
	MaxRetries     int32             `json:"max_retries"`
	TimeoutMs      *int64            `json:"timeout_ms"`
	DelayMs        *int64            `json:"delay_ms"`
	RetryDelayMs   *int64            `json:"retry_delay_ms"`
	IdempotencyKey string            `json:"idempotency_key"`
	ParentID       string            `json:"parent_id"`
	RootID         string            `json:"root_id"`
	Headers        map[string]string `json:"headers"`
	Labels         map[string]string `json:"labels"`
	ExpiresInMs    *int64            `json:"expires_in_ms"`
	DebounceKey    string            `json:"debounce_key"`
	MaxWaitMs      *int64            `json:"debounce_max_wait_ms"`
	ConcurrencyKey string            `json:"concurrency_key"`
	MaxPerKey      int32             `json:"max_per_key"`
	Refuses        bool              `json:"refuses"`
	FairKey        string            `json:"fair_key"`
	Outside        bool              `json:"outside"`
}

func parseTasks(line []byte) ([]*hyrexv1.NewTask, error) {
	var told struct {
		Tasks []submitted `json:"tasks"`
	}
	if err := json.Unmarshal(line, &told); err != nil {
		return nil, err
	}
	var tasks []*hyrexv1.NewTask
	for _, given := range told.Tasks {
		task, err := given.task()
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, task)
	}
	return tasks, nil
}

func (s submitted) task() (*hyrexv1.NewTask, error) {
	payload := any(object{})
	if s.Payload != nil {
		payload = s.Payload
	}
	task, err := hyrex.NewTask(s.Name, payload)
	if err != nil {
		return nil, err
	}
	if s.TaskID != nil {
		task.TaskId = *s.TaskID
	}
	if s.Queue != nil {
		task.Queue = *s.Queue
	}
	if s.PayloadBase64 != nil {
		task.Payload = s.PayloadBase64
	}
	task.ContentType, task.Priority, task.MaxRetries = s.ContentType, s.Priority, s.MaxRetries
	task.IdempotencyKey, task.ParentId, task.RootId = s.IdempotencyKey, s.ParentID, s.RootID
	task.Headers, task.Labels = s.Headers, s.Labels
	task.Timeout, task.RetryDelay = milliseconds(s.TimeoutMs), milliseconds(s.RetryDelayMs)
	task.ExpiresIn, task.DebounceKey, task.DebounceMaxWait = milliseconds(s.ExpiresInMs), s.DebounceKey, milliseconds(s.MaxWaitMs)
	task.ConcurrencyKey, task.MaxPerKey = s.ConcurrencyKey, s.MaxPerKey
	task.FairKey, task.Outside = s.FairKey, s.Outside
	if s.Refuses {
		task.OnFull = hyrexv1.OnFull_ON_FULL_REFUSE
	}
	if s.DelayMs != nil {
		task.Start = &hyrexv1.NewTask_Delay{Delay: milliseconds(s.DelayMs)}
	}
	return task, nil
}

func milliseconds(number *int64) *durationpb.Duration {
	if number == nil {
		return nil
	}
	return durationpb.New(time.Duration(*number) * time.Millisecond)
}

// short is an enum value's name without its prefix.
func short(value fmt.Stringer) string {
	name := value.String()
	for _, prefix := range []string{"SUBMIT_OUTCOME_", "CANCEL_OUTCOME_", "RETRY_OUTCOME_", "DISMISS_OUTCOME_", "COMPLETE_OUTCOME_", "SLOT_CAUSE_", "TASK_STATUS_", "RUN_STATUS_"} {
		name = strings.TrimPrefix(name, prefix)
	}
	return name
}

func outcomes[O fmt.Stringer, R interface {
	GetTaskId() string
	GetOutcome() O
}](results []R) []object {
	said := make([]object, len(results))
	for place, result := range results {
		said[place] = object{"task_id": result.GetTaskId(), "outcome": short(result.GetOutcome())}
	}
	return said
}

func parsed(text []byte) any {
	if len(text) == 0 || !json.Valid(text) {
		return nil
	}
	return json.RawMessage(text)
}

func texts(values map[string]string) map[string]string {
	if values == nil {
		return map[string]string{}
	}
	return values
}

func taskObject(task *hyrexv1.Task) object {
	if task == nil {
		return nil
	}
	runs := make([]object, len(task.Runs))
	for place, run := range task.Runs {
		runs[place] = runObject(run)
	}
	return object{
		"task_id": task.TaskId, "name": task.Name, "queue": task.Queue, "priority": task.Priority,
		"max_retries": task.MaxRetries, "status": short(task.Status), "parent_id": task.ParentId, "root_id": task.RootId,
		"payload": parsed(task.Payload), "content_type": task.ContentType, "idempotency_key": task.IdempotencyKey,
		"headers": texts(task.Headers), "labels": texts(task.Labels), "cancel_requested": task.CancelRequested,
		"waiting_for": task.WaitingFor, "runs": runs,
	}
}

func runObject(run *hyrexv1.TaskRun) object {
	said := object{
		"run_number": run.RunNumber, "attempt_number": run.AttemptNumber, "status": short(run.Status),
		"result": nil, "error": nil, "reason": run.Reason, "worker": run.Worker,
	}
	if run.Status == hyrexv1.RunStatus_RUN_STATUS_COMPLETED {
		said["result"] = parsed(run.Result)
	}
	if run.Error != nil {
		said["error"] = object{"type": run.Error.Type, "message": run.Error.Message, "traceback": run.Error.Traceback}
	}
	return said
}
