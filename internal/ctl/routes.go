package ctl

import (
	"context"
	"net/http"
)

// Access is what a caller must be allowed to do to use a route.
type Access uint8

// The levels of access. The zero value permits nobody.
const (
	Read  Access = iota + 1 // root, the user tund runs as, and members of groups tund-status and tund-admin
	Write                   // the same without tund-status
)

// String returns the word for the level.
func (a Access) String() string {
	switch a {
	case Read:
		return "read"
	case Write:
		return "write"
	default:
		return "none"
	}
}

// route is one request that the server knows.
type route struct {
	method string
	path   string // {name} stands for a peer's name
	access Access
	call   string // the method of Backend that does the work; "": none
	serve  handler
}

// handler decodes the body of a request, has it done and returns the reply.
type handler func(ctx context.Context, b Backend, peer string, body []byte) (reply, error)

// none is the body of requests that have none.
type none struct{}

// routes is everything the server answers, with what each asks of the caller.
func routes() []route {
	return []route{
		{http.MethodGet, "/v1/version", Read, "", nil}, // answered by the server itself
		{http.MethodGet, "/v1/status", Read, "Status", with(status)},
		{http.MethodPost, "/v1/peers/{name}/rotate-key", Write, "RotateKey", with(rotateOne(epochs))},
		{http.MethodPost, "/v1/peers/{name}/rotate-iv", Write, "RotateIV", with(rotateOne(generations))},
		{http.MethodPost, "/v1/rotate-key", Write, "RotateKey", with(rotateMany(epochs))},
		{http.MethodPost, "/v1/rotate-iv", Write, "RotateIV", with(rotateMany(generations))},
		{http.MethodPost, "/v1/peers/{name}/up", Write, "Up", with(up)},
		{http.MethodPost, "/v1/peers/{name}/down", Write, "Down", with(down)},
		{http.MethodPost, "/v1/peers/{name}/shutdown", Write, "Shutdown", with(shutdown)},
		{http.MethodPost, "/v1/reload", Write, "Reload", with(reload)},
		{http.MethodPost, "/v1/restart", Write, "Restart", with(restart)},
		{http.MethodPost, "/v1/stop-kind", Write, "StopKind", with(announce)},
	}
}

// with makes a handler of a function that takes the decoded body.
func with[Body any](serve func(context.Context, Backend, string, Body) (reply, error)) handler {
	return func(ctx context.Context, b Backend, peer string, raw []byte) (reply, error) {
		var body Body
		if err := decodeBody(raw, &body); err != nil {
			return nil, err
		}
		return serve(ctx, b, peer, body)
	}
}

func status(ctx context.Context, b Backend, _ string, _ none) (reply, error) {
	s, err := b.Status(ctx)
	return &s, err
}

// rotate is one of the two methods of Backend that do so.
type rotate func(ctx context.Context, peers []string) (Rotation, error)

func epochs(b Backend) rotate      { return b.RotateKey }
func generations(b Backend) rotate { return b.RotateIV }

func rotateOne(what func(Backend) rotate) func(context.Context, Backend, string, none) (reply, error) {
	return func(ctx context.Context, b Backend, peer string, _ none) (reply, error) {
		r, err := what(b)(ctx, []string{peer})
		return &r, err
	}
}

// rotateMany takes a body without peers as all of them, but not an empty list:
// whoever sends that has looked for peers and found none.
func rotateMany(what func(Backend) rotate) func(context.Context, Backend, string, rotateRequest) (reply, error) {
	return func(ctx context.Context, b Backend, _ string, body rotateRequest) (reply, error) {
		if body.Peers != nil && len(body.Peers) == 0 {
			return nil, Errorf(CodeBadRequest, "body: peers: empty (leave it out for all)")
		}
		seen := make(map[string]bool)
		for _, name := range body.Peers {
			if seen[name] {
				return nil, Errorf(CodeBadRequest, "body: peers: %q comes twice", name)
			}
			seen[name] = true
		}
		r, err := what(b)(ctx, body.Peers)
		return &r, err
	}
}

func up(ctx context.Context, b Backend, peer string, _ none) (reply, error) {
	return &UpResult{Peer: peer, State: StateUp}, b.Up(ctx, peer)
}

func down(ctx context.Context, b Backend, peer string, body downRequest) (reply, error) {
	r, err := b.Down(ctx, peer, body.Both)
	r.Peer = peer
	return &r, err
}

func shutdown(ctx context.Context, b Backend, peer string, _ none) (reply, error) {
	r, err := b.Shutdown(ctx, peer)
	r.Peer = peer
	return &r, err
}

func reload(ctx context.Context, b Backend, _ string, _ none) (reply, error) {
	r := b.Reload(ctx)
	return &r, nil
}
