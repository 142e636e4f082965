package hyrex

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	hyrexv1 "hyrex.dev/gen/hyrex/v1"
)

// What a worker hears, and until when it may trust in its leases by that.

// take acts on one frame. What it does not know, it ignores.
func (w *Worker) take(frame *hyrexv1.WorkResponse, cut context.CancelCauseFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.session
	s.lastRead = time.Now()
	switch frame := frame.Frame.(type) {
	case *hyrexv1.WorkResponse_Assignments:
		for _, group := range frame.Assignments.Groups {
			runs, err := runs(group)
			if err != nil {
				cut(fmt.Errorf("assignments that cannot be read: %w", err))
				return
			}
			w.receive(runs)
		}
		s.receivedThrough = max(s.receivedThrough, frame.Assignments.Sequence)
	case *hyrexv1.WorkResponse_ReportAck:
		w.settle(frame.ReportAck)
	case *hyrexv1.WorkResponse_HeartbeatAck:
		w.acknowledged(frame.HeartbeatAck)
	case *hyrexv1.WorkResponse_Cancel:
		w.cancel(frame.Cancel.Runs)
	case *hyrexv1.WorkResponse_Drain:
		jitter := time.Duration(rand.Float64() * float64(frame.Drain.ReconnectJitter.AsDuration()))
		time.AfterFunc(jitter, func() { cut(errors.New("the broker drains")) })
	case *hyrexv1.WorkResponse_Leave:
		go w.leave()
	}
}

func (w *Worker) cancel(runs []*hyrexv1.CancelRun) {
	for _, run := range runs {
		w.stopLease(run.Token, cancelled{run.Reason})
	}
}

func (w *Worker) acknowledged(ack *hyrexv1.HeartbeatAck) {
	for _, ref := range ack.Revoked {
		w.stopLease(ref.Token, errRevoked)
	}
	w.cancel(ack.Cancels)
	if sentAt, found := w.session.beatSent[ack.Sequence]; found {
		w.trust(sentAt)
	}
	for sequence := range w.session.beatSent {
		if sequence <= ack.Sequence {
			delete(w.session.beatSent, sequence)
		}
	}
}

// settle forgets what a report named: it is recorded, or was before, or is stale.
func (w *Worker) settle(ack *hyrexv1.ReportAck) {
	s := &w.session
	place := slices.IndexFunc(s.reports, func(report *hyrexv1.Report) bool { return report.ReportId == ack.ReportId })
	if place < 0 {
		return
	}
	for _, token := range tokens(s.reports[place]) {
		delete(w.held, token)
	}
	s.reports = slices.Delete(s.reports, place, place+1)
	if place < s.sent {
		s.sent--
	}
	w.poke()
}

func (s *session) trusted() bool { return time.Now().Before(s.trustUntil) }

// trust prolongs the trust in all leases: a Hello or heartbeat sent then was acknowledged.
func (w *Worker) trust(sentAt time.Time) {
	lease := w.session.terms.LeaseDuration.AsDuration()
	if until := sentAt.Add(lease - max(lease/10, leastMargin)); until.After(w.session.trustUntil) {
		w.session.trustUntil = until
		if w.session.trustTimer != nil {
			w.session.trustTimer.Stop()
		}
		w.session.trustTimer = time.AfterFunc(time.Until(until), func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if !w.session.trusted() {
				w.stopRuns(errUntrusted)
			}
		})
	}
	w.start()
}
