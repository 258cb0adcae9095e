// Package stall gives up connections on which nothing moves any more.
package stall

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// Bound has each connection that t makes fail with os.ErrDeadlineExceeded when it has
// taken no byte for that time in the middle of a request, or brought none in the middle
// of a reply; between the two it has twice the time. Without it net/http waits for a
// server that has stopped as long as the system's TCP does, which is for ever if the
// other system is well. A slow connection is not a stalled one: it has the time for each
// 64 KiB.
func Bound(t *http.Transport, d time.Duration) {
	dial := t.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &conn{c, d}, nil
	}
}

type conn struct {
	net.Conn
	d time.Duration
}

func (c *conn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.d)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write also gives more time to the Read that waits meanwhile for the reply, and which
// is not the one to fail.
func (c *conn) Write(p []byte) (n int, err error) {
	const piece = 64 << 10
	for {
		now := time.Now()
		if err := errors.Join(c.SetWriteDeadline(now.Add(c.d)), c.SetReadDeadline(now.Add(2*c.d))); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p[n:min(n+piece, len(p))])
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
	}
}
