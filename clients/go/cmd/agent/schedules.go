package main

import (
	"context"
	"encoding/json"

	hyrexv1 "hyrex.dev/gen/hyrex/v1"
)

func (a *agent) schedule(ctx context.Context, told command, line []byte) (any, error) {
	schedules := a.client.Schedules()
	switch told.Op {
	case "schedule_put":
		return a.putSchedule(ctx, told, line)
	case "schedule_get":
		answer, err := schedules.GetSchedule(ctx, &hyrexv1.GetScheduleRequest{Name: told.Name})
		slots := []object{}
		for _, slot := range answer.GetSlots() {
			slots = append(slots, object{"task_id": slot.TaskId, "cause": short(slot.Cause)})
		}
		return object{"schedule": scheduleObject(answer.GetSchedule()), "slots": slots}, err
	case "schedule_pause":
		var given struct {
			Resume bool `json:"resume"`
		}
		if err := json.Unmarshal(line, &given); err != nil {
			return nil, err
		}
		request := &hyrexv1.PauseScheduleRequest{Name: told.Name, Resume: given.Resume}
		answer, err := schedules.PauseSchedule(ctx, request)
		return object{"schedule": scheduleObject(answer.GetSchedule())}, err
	case "schedule_trigger":
		answer, err := schedules.TriggerSchedule(ctx, &hyrexv1.TriggerScheduleRequest{Name: told.Name})
		return object{"task_id": answer.GetTaskId()}, err
	}
	_, err := schedules.DeleteSchedule(ctx, &hyrexv1.DeleteScheduleRequest{Name: told.Name})
	return object{}, err
}

func (a *agent) putSchedule(ctx context.Context, told command, line []byte) (any, error) {
	var given struct {
		Cron     string    `json:"cron"`
		Timezone string    `json:"timezone"`
		Task     submitted `json:"task"`
	}
	if err := json.Unmarshal(line, &given); err != nil {
		return nil, err
	}
	task, err := given.Task.task()
	if err != nil {
		return nil, err
	}
	task.TaskId = ""
	definition := &hyrexv1.ScheduleDefinition{
		Name: told.Name, Cron: given.Cron, Timezone: given.Timezone, Task: task,
	}
	answer, err := a.client.Schedules().PutSchedule(ctx, &hyrexv1.PutScheduleRequest{Definition: definition})
	return object{"changed": answer.GetChanged(), "schedule": scheduleObject(answer.GetSchedule())}, err
}

func scheduleObject(schedule *hyrexv1.Schedule) object {
	definition := schedule.GetDefinition()
	task := object{"name": definition.GetTask().GetName(), "queue": definition.GetTask().GetQueue()}
	return object{
		"name": definition.GetName(), "cron": definition.GetCron(), "timezone": definition.GetTimezone(),
		"task": task, "paused": schedule.GetPaused(),
	}
}
