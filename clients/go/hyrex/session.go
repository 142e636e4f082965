package hyrex

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	hyrexv1 "hyrex.dev/gen/hyrex/v1"
)

const (
	welcomeWithin = 10 * time.Second
	leastMargin   = 100 * time.Millisecond
)

// session is what a worker keeps from stream to stream. Trust is reckoned on Go's monotonic clock.
type session struct {
	id              string
	secret          []byte
	terms           *hyrexv1.Welcome
	receivedThrough int64
	beats           int64
	beatSent        map[int64]time.Time
	trustUntil      time.Time
	trustTimer      *time.Timer

	ended      []*ending         // to be framed
	reports    []*hyrexv1.Report // unacknowledged
	lastReport int64

	// Of the stream that lives now:
	sent         int // how many of the reports it has carried
	nextBeat     time.Time
	lastRead     time.Time
	capacitySaid bool
	drainSaid    bool
	goodbyeSaid  bool
}

func (s *session) trusted() bool { return time.Now().Before(s.trustUntil) }

// Run serves the brokers until the worker has left after Drain, or because a broker asked it to (nil),
// or a broker refuses it for good (an *Error). When ctx ends it stops at once and without a word, as a
// crash would: its leases expire.
func (w *Worker) Run(ctx context.Context) error {
	defer close(w.left)
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.stopRuns(errRevoked)
	}()
	urls := strings.Split(w.config.URLs, ",")
	for place, failures := 0, 0; ; place++ {
		url := urls[place%len(urls)]
		welcomed, err := w.serve(ctx, url)
		w.mu.Lock()
		left := w.session.goodbyeSaid
		w.mu.Unlock()
		switch refused := (*Error)(nil); {
		case left:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &refused):
			switch refused.Reason {
			case "PROTOCOL_UNSUPPORTED", "TOKEN_INVALID", "INVALID_FIELD", "TOO_MANY_ITEMS":
				return err
			case "SESSION_ENDED", "SESSION_TAKEN_OVER", "SESSION_SECRET_INVALID":
				w.mu.Lock()
				w.session.id, w.session.secret = "", nil
				w.stopRuns(errRevoked)
				w.mu.Unlock()
			}
		}
		if failures++; welcomed {
			failures = 0
		}
		w.config.Log.Info("stream ended", "broker", url, "why", err)
		if !pause(ctx, backoff(failures)) {
			return ctx.Err()
		}
	}
}

type workStream = hyrexv1.WorkerService_WorkClient

// serve lives one stream.
func (w *Worker) serve(ctx context.Context, url string) (welcomed bool, err error) {
	ctx, cut := context.WithCancelCause(ctx)
	var writer sync.WaitGroup
	defer writer.Wait()
	defer cut(nil)
	conn, err := dial(url, w.config.Token)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	late := time.AfterFunc(welcomeWithin, func() { cut(errors.New("no answer to Hello")) })
	defer late.Stop()
	stream, err := hyrexv1.NewWorkerServiceClient(conn).Work(ctx)
	if err != nil {
		return false, refusal(err)
	}
	sentAt := time.Now()
	if err = stream.Send(&hyrexv1.WorkRequest{Frame: &hyrexv1.WorkRequest_Hello{Hello: w.hello()}}); err != nil && err != io.EOF {
		return false, refusal(err)
	}
	for {
		var frame *hyrexv1.WorkResponse
		if frame, err = stream.Recv(); err != nil {
			break
		}
		if welcome := frame.GetWelcome(); welcome != nil && !welcomed {
			welcomed = true
			late.Stop()
			w.begin(welcome, sentAt)
			writer.Add(1)
			go func() {
				defer writer.Done()
				w.write(ctx, stream, cut)
			}()
		}
		w.take(frame, cut)
	}
	if cause := context.Cause(ctx); cause != nil {
		return welcomed, cause
	}
	if err == io.EOF {
		return welcomed, err
	}
	return welcomed, refusal(err)
}

func (w *Worker) hello() *hyrexv1.Hello {
	w.mu.Lock()
	defer w.mu.Unlock()
	host, _ := os.Hostname()
	hello := &hyrexv1.Hello{
		WorkerName: w.config.Name, Host: host, Pid: int32(os.Getpid()), Sdk: Version, ProtocolVersion: 1,
		QueuePatterns: w.config.Queues, Tasks: w.tasks, Capacity: w.pools(),
		SessionId: w.session.id, SessionSecret: w.session.secret, ReceivedThrough: w.session.receivedThrough,
	}
	for token, run := range w.held {
		hello.Held = append(hello.Held, &hyrexv1.LeaseRef{TaskId: run.TaskID, Token: token})
	}
	w.session.capacitySaid = true
	return hello
}

func (w *Worker) pools() []*hyrexv1.PoolCapacity {
	if w.draining {
		return []*hyrexv1.PoolCapacity{{}}
	}
	return []*hyrexv1.PoolCapacity{{Maximum: w.capacity}}
}

// begin takes what Welcome says. What is not resumed is void.
func (w *Worker) begin(welcome *hyrexv1.Welcome, sentAt time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.session
	if !welcome.Resumed || welcome.SessionId != s.id {
		w.stopRuns(errRevoked)
		s.receivedThrough, s.beats, s.trustUntil = 0, 0, time.Time{}
	}
	s.id, s.secret, s.terms = welcome.SessionId, welcome.SessionSecret, welcome
	s.sent, s.drainSaid, s.nextBeat, s.lastRead, s.beatSent = 0, false, time.Time{}, time.Now(), map[int64]time.Time{}
	for _, ref := range welcome.Revoked {
		w.stopLease(ref.Token, errRevoked)
	}
	w.trust(sentAt)
	select {
	case <-w.welcomed:
	default:
		close(w.welcomed)
	}
}

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
