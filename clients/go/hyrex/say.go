package hyrex

import (
	"context"
	"fmt"
	"time"

	hyrexv1 "hyrex.dev/gen/hyrex/v1"
)

// What a worker says: one writer for each stream.

// write is the only sender of its stream. An error of the stream is the reader's to tell.
func (w *Worker) write(ctx context.Context, stream workStream, cut context.CancelCauseFunc) {
	for ctx.Err() == nil {
		w.mu.Lock()
		frame := w.next()
		interval := w.session.terms.HeartbeatInterval.AsDuration()
		quiet := max(time.Second, 5*interval/2)
		silent := time.Since(w.session.lastRead) > quiet
		wait := min(time.Until(w.session.nextBeat), time.Until(w.session.lastRead.Add(quiet)))
		w.mu.Unlock()
		if silent {
			cut(fmt.Errorf("the broker was silent for %v", quiet))
			return
		}
		if frame == nil {
			select {
			case <-ctx.Done():
			case <-w.wake:
			case <-time.After(wait):
			}
			continue
		}
		if stream.Send(frame) != nil {
			return
		}
		if frame.GetGoodbye() != nil {
			_ = stream.CloseSend()
			return
		}
	}
}

// next is the frame to send now, if any.
func (w *Worker) next() *hyrexv1.WorkRequest {
	s := &w.session
	switch now := time.Now(); {
	case s.goodbyeSaid:
		return nil
	case !now.Before(s.nextBeat):
		s.beats++
		s.beatSent[s.beats] = now
		s.nextBeat = now.Add(s.terms.HeartbeatInterval.AsDuration())
		beat := &hyrexv1.Heartbeat{Sequence: s.beats, ReceivedThrough: s.receivedThrough}
		for token := range w.held {
			beat.HeldTokens = append(beat.HeldTokens, token)
		}
		return &hyrexv1.WorkRequest{Frame: &hyrexv1.WorkRequest_Heartbeat{Heartbeat: beat}}
	case w.draining && !s.drainSaid:
		s.drainSaid = true
		return &hyrexv1.WorkRequest{Frame: &hyrexv1.WorkRequest_Drain{Drain: &hyrexv1.WorkerDrain{Reason: errLeaving.Error()}}}
	case !s.capacitySaid:
		s.capacitySaid = true
		return &hyrexv1.WorkRequest{Frame: &hyrexv1.WorkRequest_Capacity{Capacity: &hyrexv1.CapacityUpdate{Pools: w.pools()}}}
	case s.report():
		s.sent++
		return &hyrexv1.WorkRequest{Frame: &hyrexv1.WorkRequest_Report{Report: s.reports[s.sent-1]}}
	case w.draining && len(w.held) == 0 && len(s.reports) == 0:
		s.goodbyeSaid = true
		return &hyrexv1.WorkRequest{Frame: &hyrexv1.WorkRequest_Goodbye{Goodbye: &hyrexv1.Goodbye{}}}
	}
	return nil
}

// report sees to it that reports[sent] may be sent now, framing what has ended; false if none may.
func (s *session) report() bool {
	if s.sent == len(s.reports) && len(s.ended) > 0 {
		count, bytes := 0, 0
		for count < min(len(s.ended), mostItems) && (count == 0 || bytes+s.ended[count].size() < int(s.terms.MaxFrameBytes)) {
			bytes += s.ended[count].size()
			count++
		}
		s.lastReport++
		s.reports = append(s.reports, newReport(s.lastReport, s.ended[:count]))
		s.ended = s.ended[count:]
	}
	unacknowledged := 0
	for _, report := range s.reports[:min(s.sent+1, len(s.reports))] {
		unacknowledged += len(tokens(report))
	}
	return s.sent < len(s.reports) && unacknowledged <= int(s.terms.MaxUnacknowledgedReports)
}
