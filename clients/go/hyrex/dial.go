// Package hyrex is a client and a worker of the Hyrex task broker, over the protocol hyrex.v1.
package hyrex

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

const (
	// Version is what this client calls itself.
	Version      = "hyrex-go/0.1.0"
	messageBytes = 16 << 20
)

// bearer sends the token with every call, the Work stream included.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }

// dial opens a channel to the first of some brokers that answers; grpc:// is plain, grpcs:// is TLS.
func dial(urls, token string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	var brokers resolver.State
	secure := strings.HasPrefix(urls, "grpcs://")
	for url := range strings.SplitSeq(urls, ",") {
		scheme, address, found := strings.Cut(strings.TrimRight(strings.TrimSpace(url), "/"), "://")
		if !found || (scheme == "grpcs") != secure || (!secure && scheme != "grpc") {
			return nil, fmt.Errorf("broker URL %q must be like grpc://host:50051 (or all grpcs://)", url)
		}
		if token != "" && !secure && !loopback(address) && os.Getenv("HYREX_INSECURE") != "1" {
			return nil, fmt.Errorf("the token would cross the network unencrypted to %s: use grpcs://, or HYREX_INSECURE=1", url)
		}
		brokers.Addresses = append(brokers.Addresses, resolver.Address{Addr: address, ServerName: address})
	}
	builder := manual.NewBuilderWithScheme("hyrex")
	builder.InitialState(brokers)
	transport := insecure.NewCredentials()
	if secure {
		transport = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithResolvers(builder),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(4*messageBytes), grpc.MaxCallSendMsgSize(messageBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	if token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(token)))
	}
	return grpc.NewClient("hyrex:///brokers", append(options, more...)...)
}

// loopback says whether what is sent to an address stays on this machine.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
	}
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// lastID holds the time in milliseconds and 12 bits that grow within one.
var lastID struct {
	sync.Mutex
	moment uint64
}

// NewID makes a task id: a UUID of version 7, as the broker demands, greater than all made before.
func NewID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	lastID.Lock()
	lastID.moment = max(lastID.moment+1, uint64(time.Now().UnixMilli())<<12|uint64(id[7]))
	moment := lastID.moment
	lastID.Unlock()
	binary.BigEndian.PutUint64(id[:8], moment>>12<<16|0x7000|moment&0x0fff)
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
