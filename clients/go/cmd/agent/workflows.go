package main

import (
	"context"
	"encoding/json"

	hyrexv1 "hyrex.dev/gen/hyrex/v1"
)

func (a *agent) complete(ctx context.Context, told command, line []byte) (any, error) {
	var given struct {
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(line, &given); err != nil {
		return nil, err
	}
	request := &hyrexv1.CompleteTasksRequest{TaskIds: told.TaskIDs, Reason: told.Reason}
	if given.Error != nil {
		failure := &hyrexv1.RunError{Type: given.Error.Type, Message: given.Error.Message}
		request.End = &hyrexv1.CompleteTasksRequest_Error{Error: failure}
	} else {
		request.End = &hyrexv1.CompleteTasksRequest_Result{Result: &hyrexv1.OutsideResult{Result: given.Result}}
	}
	results, err := a.client.Complete(ctx, request)
	return object{"results": outcomes(results)}, err
}

func (a *agent) submitWorkflow(ctx context.Context, line []byte) (any, error) {
	var given struct {
		Root  submitted `json:"root"`
		Nodes []struct {
			Name      string    `json:"name"`
			Task      submitted `json:"task"`
			Approval  bool      `json:"approval"`
			Upstreams []struct {
				Node       int32  `json:"node"`
				Parameter  string `json:"parameter"`
				RunsAnyway bool   `json:"runs_anyway"`
			} `json:"upstreams"`
		} `json:"nodes"`
		FailFast bool `json:"fail_fast"`
	}
	if err := json.Unmarshal(line, &given); err != nil {
		return nil, err
	}
	root, err := given.Root.task()
	if err != nil {
		return nil, err
	}
	request := &hyrexv1.SubmitWorkflowRequest{Root: root, FailFast: given.FailFast}
	for _, told := range given.Nodes {
		task, err := told.Task.task()
		if err != nil {
			return nil, err
		}
		node := &hyrexv1.WorkflowNode{Task: task, Name: told.Name, Approval: told.Approval}
		for _, each := range told.Upstreams {
			upstream := &hyrexv1.Upstream{Node: each.Node, Parameter: each.Parameter, RunsAnyway: each.RunsAnyway}
			node.Upstreams = append(node.Upstreams, upstream)
		}
		request.Nodes = append(request.Nodes, node)
	}
	result, err := a.client.SubmitWorkflow(ctx, request)
	if err != nil {
		return nil, err
	}
	return object{"result": submittedObject(result)}, nil
}

func (a *agent) getWorkflow(ctx context.Context, told command) (any, error) {
	found, err := a.client.GetWorkflow(ctx, told.TaskID)
	nodes := []object{}
	for _, node := range found.GetNodes() {
		upstreams := []object{}
		for _, each := range node.Upstreams {
			upstreams = append(upstreams, object{"node": each.Node, "parameter": each.Parameter, "runs_anyway": each.RunsAnyway})
		}
		said := object{"task": taskObject(node.Task), "name": node.Name, "upstreams": upstreams, "approval": node.Approval}
		nodes = append(nodes, said)
	}
	return object{"root": taskObject(found.GetRoot()), "nodes": nodes, "fail_fast": found.GetFailFast()}, err
}
