package ctl

import (
	"context"
	"net/http"
)

// StopKind is what the SIGTERM that follows is for.
type StopKind string

// The kinds of stop.
const (
	KindStop    StopKind = "stop"    // the tunnels end, and the peers are told
	KindRestart StopKind = "restart" // the next tund takes them over
)

// stopKindRequest is the body of stop-kind.
type stopKindRequest struct {
	Kind StopKind `json:"kind"`
}

// StopKindResult is the reply to stop-kind.
type StopKindResult struct {
	Schema int      `json:"schema"`
	Kind   StopKind `json:"kind"`
}

// StopKind announces what the SIGTERM that follows is for.
func (c *Client) StopKind(ctx context.Context, kind StopKind) error {
	_, err := ask[StopKindResult](ctx, c, http.MethodPost, "/v1/stop-kind", stopKindRequest{Kind: kind})
	return err
}

func announce(ctx context.Context, b Backend, _ string, body stopKindRequest) (reply, error) {
	if body.Kind != KindStop && body.Kind != KindRestart {
		return nil, Errorf(CodeBadRequest, "body: kind: %q is neither %q nor %q", body.Kind, KindStop, KindRestart)
	}
	return &StopKindResult{Kind: body.Kind}, b.StopKind(ctx, body.Kind)
}
