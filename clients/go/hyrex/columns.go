package hyrex

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	hyrexv1 "hyrex.dev/gen/hyrex/v1"
)

const idBytes = 16

// Assignment is one run to execute, with its lease. Runs of one group share their headers: do not change them.
type Assignment struct {
	TaskID        string
	Token         int64
	Name          string
	Queue         string
	Payload       []byte
	ContentType   string // empty means application/json
	Codec         string // empty means none
	RunNumber     int32  // counts every run of the task from 0
	AttemptNumber int32  // counts failed and timed-out runs before this one
	MaxRetries    int32
	Priority      int32
	Timeout       time.Duration // 0 means no limit
	ParentID      string        // empty at the root
	RootID        string
	SubmittedAt   time.Time
	Headers       map[string]string
	Alone         bool             // run it with nothing beside it
	Node          *hyrexv1.NodeRun // of a workflow's node: which one; what it is given is in Payload, too; else nil
}

// runs are those of a group. A column has no value (all have the default), one (all share it), or one for each.
func runs(group *hyrexv1.AssignmentGroup) ([]*Assignment, error) {
	count := len(group.Tokens)
	ids, parents, roots := unpacked(group.TaskIds), unpacked(group.ParentIds), unpacked(group.RootIds)
	if len(ids) != count || len(group.Payloads) != count {
		return nil, fmt.Errorf("%d ids and %d payloads for %d tokens", len(ids), len(group.Payloads), count)
	}
	for _, length := range []int{
		len(parents), len(roots), len(group.RunNumbers), len(group.AttemptNumbers), len(group.SubmittedAtUs), len(group.Headers), len(group.Nodes),
	} {
		if length > 1 && length != count {
			return nil, fmt.Errorf("a column of %d values for %d runs", length, count)
		}
	}
	made := make([]*Assignment, count)
	for place, token := range group.Tokens {
		run := &Assignment{
			TaskID: ids[place], Token: token, Name: group.Name, Queue: group.Queue, Payload: group.Payloads[place],
			ContentType: group.ContentType, Codec: group.Codec, MaxRetries: group.MaxRetries, Priority: group.Priority,
			RunNumber: value(group.RunNumbers, place), AttemptNumber: value(group.AttemptNumbers, place),
			ParentID: value(parents, place), RootID: value(roots, place),
			SubmittedAt: time.UnixMicro(value(group.SubmittedAtUs, place)), Timeout: group.Timeout.AsDuration(), Alone: group.Alone,
		}
		if run.RootID == "" {
			run.RootID = run.TaskID
		}
		if headers := value(group.Headers, place); headers != nil {
			run.Headers = headers.Headers
		}
		if node := value(group.Nodes, place); node.GetNode() != "" {
			run.Node = node
		}
		made[place] = run
	}
	return made, nil
}

func value[T any](column []T, place int) (found T) {
	switch len(column) {
	case 0:
		return found
	case 1:
		return column[0]
	}
	return column[place]
}

// unpacked are ids from their bytes; 16 zero bytes are an empty one.
func unpacked(packed []byte) []string {
	ids := make([]string, 0, len(packed)/idBytes)
	for ; len(packed) >= idBytes; packed = packed[idBytes:] {
		digits := hex.EncodeToString(packed[:idBytes])
		if strings.Trim(digits, "0") == "" {
			ids = append(ids, "")
			continue
		}
		ids = append(ids, strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-"))
	}
	return ids
}

// ending is how one run ended: what it returned, or a report.
type ending struct {
	*hyrexv1.RunReport
	returned bool
	result   []byte
}

// size is how many bytes it takes in a report, or a little less.
func (e *ending) size() int { return proto.Size(e.RunReport) + len(e.result) + 8 }

// newReport says how runs ended: those that returned as columns, the others one by one.
func newReport(id int64, ends []*ending) *hyrexv1.Report {
	report := &hyrexv1.Report{ReportId: id}
	completed := &hyrexv1.CompletedRuns{}
	for _, end := range ends {
		if !end.returned {
			report.Runs = append(report.Runs, end.RunReport)
			continue
		}
		packed, _ := hex.DecodeString(strings.ReplaceAll(end.TaskId, "-", ""))
		completed.TaskIds = append(completed.TaskIds, packed...)
		completed.Tokens = append(completed.Tokens, end.Token)
		completed.ElapsedUs = append(completed.ElapsedUs, uint64(end.Elapsed.AsDuration().Microseconds()))
		completed.Results = append(completed.Results, end.result)
	}
	if len(completed.Tokens) > 0 {
		report.Completed = append(report.Completed, completed)
	}
	return report
}

// tokens are those of all runs of a report.
func tokens(report *hyrexv1.Report) []int64 {
	var all []int64
	for _, run := range report.Runs {
		all = append(all, run.Token)
	}
	for _, group := range report.Completed {
		all = append(all, group.Tokens...)
	}
	return all
}
