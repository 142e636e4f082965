package hyrex

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	hyrexv1 "hyrex.dev/gen/hyrex/v1"
)

// SubmitWorkflow stores a root and its nodes, or nothing; see ItemError for the result, whose metadata name the
// node that was refused. Repeating it with the same ids is harmless. Wait for its root, or cancel it, as for any task.
func (c *Client) SubmitWorkflow(ctx context.Context, request *hyrexv1.SubmitWorkflowRequest) (*hyrexv1.SubmitResult, error) {
	response, err := repeated(ctx, c.workflows.SubmitWorkflow, request)
	return response.GetRoot(), err
}

// GetWorkflow looks a workflow up by the id of its root or of any node: the graph and how each node stands.
func (c *Client) GetWorkflow(ctx context.Context, id string) (*hyrexv1.GetWorkflowResponse, error) {
	return repeated(ctx, c.workflows.GetWorkflow, &hyrexv1.GetWorkflowRequest{TaskId: id})
}

func isJSON(contentType string) bool { return contentType == "" || contentType == "application/json" }

// bind puts the results that a node is given among the members of its payload. One with a codec stays as it is: its
// handler finds them in run.Node.
func bind(run *Assignment) error {
	if len(run.Node.GetResults()) == 0 || run.Codec != "" {
		return nil
	}
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(run.Payload, &members); err != nil || members == nil {
		return fmt.Errorf("payload of %s, a node with results of others, is no JSON object", run.Name)
	}
	lists := map[string][]json.RawMessage{}
	for _, each := range run.Node.Results {
		if !isJSON(each.ContentType) || !json.Valid(each.Result) {
			return fmt.Errorf("the result of %s for %s is %s, not plain JSON", each.TaskName, each.Parameter, each.ContentType)
		}
		if name, listed := strings.CutSuffix(each.Parameter, "[]"); listed {
			lists[name] = append(lists[name], each.Result)
		} else {
			members[each.Parameter] = each.Result
		}
	}
	for name, results := range lists {
		members[name], _ = json.Marshal(results)
	}
	run.Payload, _ = json.Marshal(members)
	return nil
}
