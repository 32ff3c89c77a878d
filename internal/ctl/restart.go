package ctl

import (
	"context"
	"net/http"
)

// RestartBegun is the reply to restart: this tund makes room for its program anew. The
// new one has another instance.
type RestartBegun struct {
	Schema   int    `json:"schema"`
	Result   string `json:"result"` // "restarting"
	Version  string `json:"version"`
	Instance string `json:"instance"` // of the tund that replies

	begin func()
}

// sent is called when the reply is on its way.
func (r *RestartBegun) sent() { r.begin() }

// Restart has tund replaced by its program anew, over which the tunnels stay. The reply
// comes before that is done.
func (c *Client) Restart(ctx context.Context) (RestartBegun, error) {
	return ask[RestartBegun](ctx, c, http.MethodPost, "/v1/restart", nil)
}

func restart(ctx context.Context, b Backend, _ string, _ none) (reply, error) {
	r, begin, err := b.Restart(ctx)
	r.begin = begin
	return &r, err
}
