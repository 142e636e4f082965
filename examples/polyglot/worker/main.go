// The worker: executes words.count until it is told to stop.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"hyrex.dev/hyrex"
)

type arguments struct {
	Text string `json:"text"`
}

func count(_ context.Context, given arguments) (map[string]int, error) {
	counts := map[string]int{}
	for _, word := range strings.Fields(given.Text) {
		counts[word]++
	}
	return counts, nil
}

func main() {
	url := os.Getenv("HYREX_BROKER_URL")
	if url == "" {
		url = "grpc://localhost:50051"
	}
	worker := hyrex.NewWorker(hyrex.WorkerConfig{
		URLs: url, Token: os.Getenv("HYREX_TOKEN"), Queues: []string{"words"}, Capacity: 10,
	})
	worker.Handle("words.count", hyrex.JSON(count))
	stop, done := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer done()
	go func() {
		<-stop.Done()
		_ = worker.Drain(context.Background())
	}()
	if err := worker.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
