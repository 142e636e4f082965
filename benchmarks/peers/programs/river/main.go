// River: InsertManyFast in batches; a worker with the settings of River's own benchmark.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"golang.org/x/sys/unix"
)

const batch = 5_000

// Order is the task's argument.
type Order struct {
	OrderID  int     `json:"order_id"`
	Customer string  `json:"customer"`
	Amount   float64 `json:"amount"`
	Express  bool    `json:"express"`
}

func (Order) Kind() string { return "handle" }

type handler struct{ river.WorkerDefaults[Order] }

func (*handler) Work(context.Context, *river.Job[Order]) error { return nil }

func main() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("BENCH_DATABASE_URL"))
	check(err)
	if os.Args[1] == "work" {
		work(ctx, pool)
	} else {
		produce(ctx, pool)
	}
}

func work(ctx context.Context, pool *pgxpool.Pool) {
	workers := river.NewWorkers()
	river.AddWorker(workers, &handler{})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		FetchCooldown:     2 * time.Millisecond,
		FetchPollInterval: 20 * time.Millisecond,
		Logger:            slog.New(slog.DiscardHandler),
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2_000}},
		Workers:           workers,
	})
	check(err)
	check(client.Start(ctx))
	select {}
}

func produce(ctx context.Context, pool *pgxpool.Pool) {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	check(err)
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	check(err)
	client, err := river.NewClient[pgx.Tx](riverpgxv5.New(pool), &river.Config{})
	check(err)
	fmt.Println("actor ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var wanted struct {
			Count int `json:"count"`
		}
		check(json.Unmarshal(lines.Bytes(), &wanted))
		began, ended := send(ctx, pool, client, wanted.Count)
		fmt.Printf("{\"began\": %f, \"ended\": %f}\n", began, ended)
	}
}

func send(ctx context.Context, pool *pgxpool.Pool, client *river.Client[pgx.Tx], count int) (float64, float64) {
	began := monotonic()
	for first := 0; first < count; first += batch {
		last := min(first+batch, count)
		params := make([]river.InsertManyParams, 0, batch)
		for n := first; n < last; n++ {
			args := Order{OrderID: n, Customer: "customer-0123456789@example.com", Amount: 99.95, Express: true}
			params = append(params, river.InsertManyParams{Args: args})
		}
		_, err := client.InsertManyFast(ctx, params)
		check(err)
	}
	for {
		var open bool
		const query = "select exists (select from river_job where state in ('available', 'running', 'retryable'))"
		check(pool.QueryRow(ctx, query).Scan(&open))
		if !open {
			return began, monotonic()
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func monotonic() float64 {
	var now unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	return float64(now.Nano()) / 1e9
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
