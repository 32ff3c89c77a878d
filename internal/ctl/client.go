package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"time"
)

const (
	// maxReply bounds what is read of a reply: the status of more peers than a
	// node can have.
	maxReply = 64 << 20
	// grace is how much longer than its time-out the reply may take to arrive, so
	// that it is the daemon that says what was not done in time.
	grace = 2 * time.Second
)

// ErrUnreachable is the cause of errors when nobody answers on the socket. Where
// the socket may not be opened, the cause is [fs.ErrPermission] instead.
var ErrUnreachable = errors.New("cannot reach tund")

// Client makes requests on the control socket. Errors that the daemon answers with
// are of type [*Error]. It is safe for concurrent use.
type Client struct {
	timeout time.Duration
	http    *http.Client
}

// NewClient returns a client for the socket at path, each of whose requests may
// take as long as timeout; 0 is without limit.
func NewClient(path string, timeout time.Duration) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Client{
		timeout: timeout,
		http: &http.Client{
			Transport:     &http.Transport{DialContext: dial, DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Version asks for the daemon's version.
func (c *Client) Version(ctx context.Context) (Version, error) {
	return ask[Version](ctx, c, http.MethodGet, "/v1/version", nil)
}

// Status asks for the node and all its peers.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, http.MethodGet, "/v1/status", nil)
}

// RotateKey has new epochs agreed on with the peers; without any, with all.
func (c *Client) RotateKey(ctx context.Context, peers []string) (Rotation, error) {
	return c.rotate(ctx, "rotate-key", peers)
}

// RotateIV has new generations agreed on with the peers; without any, with all.
func (c *Client) RotateIV(ctx context.Context, peers []string) (Rotation, error) {
	return c.rotate(ctx, "rotate-iv", peers)
}

// Up lets a peer connect and waits until it is up.
func (c *Client) Up(ctx context.Context, peer string) (UpResult, error) {
	return ask[UpResult](ctx, c, http.MethodPost, peerPath(peer, "up"), nil)
}

// Down closes a peer's tunnel, with both also asking the other side to stay down.
func (c *Client) Down(ctx context.Context, peer string, both bool) (DownResult, error) {
	return ask[DownResult](ctx, c, http.MethodPost, peerPath(peer, "down"), downRequest{Both: both})
}

// Shutdown orders the other side to close its end.
func (c *Client) Shutdown(ctx context.Context, peer string) (DownResult, error) {
	return ask[DownResult](ctx, c, http.MethodPost, peerPath(peer, "shutdown"), nil)
}

// Reload has the configuration loaded again.
func (c *Client) Reload(ctx context.Context) (ReloadResult, error) {
	return ask[ReloadResult](ctx, c, http.MethodPost, "/v1/reload", nil)
}

func (c *Client) rotate(ctx context.Context, verb string, peers []string) (Rotation, error) {
	switch len(peers) {
	case 0:
		return ask[Rotation](ctx, c, http.MethodPost, "/v1/"+verb, nil)
	case 1:
		return ask[Rotation](ctx, c, http.MethodPost, peerPath(peers[0], verb), nil)
	default:
		return ask[Rotation](ctx, c, http.MethodPost, "/v1/"+verb, rotateRequest{Peers: peers})
	}
}

func peerPath(peer, verb string) string {
	return "/v1/peers/" + url.PathEscape(peer) + "/" + verb
}

// ask makes one request and returns its reply.
func ask[Reply any](ctx context.Context, c *Client, method, path string, body any) (Reply, error) {
	var answer Reply
	if c.timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, c.timeout+grace)
		defer cancel()
		ctx = limited
	}
	response, err := c.send(ctx, method, path, body)
	if err != nil {
		return answer, unreachable(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxReply))
	if err != nil {
		return answer, unreachable(err)
	}
	if response.StatusCode != http.StatusOK {
		return answer, decodeError(response.StatusCode, text)
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return answer, fmt.Errorf("reply of tund: %w", err)
	}
	tidy(reflect.ValueOf(&answer).Elem()) // whatever answers there
	return answer, nil
}

func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var text []byte
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		text = encoded
	}
	if c.timeout > 0 && path != "/v1/version" {
		path += "?timeout=" + c.timeout.String()
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://tund"+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return c.http.Do(request)
}

// decodeError returns the error that a reply carries.
func decodeError(status int, text []byte) error {
	var answer ErrorReply
	if err := json.Unmarshal(text, &answer); err != nil || answer.Error == nil {
		return fmt.Errorf("reply of tund: status %d without an error", status)
	}
	tidy(reflect.ValueOf(answer.Error).Elem())
	return answer.Error
}

// unreachable says why nobody answered, without the made-up URL in the text.
func unreachable(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("cannot reach tund: %w", err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: no answer in time", ErrUnreachable)
	default:
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
}
