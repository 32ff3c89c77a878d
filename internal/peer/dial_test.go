package peer

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tund/internal/config"
	"tund/internal/keys"
	"tund/internal/session"
)

// address is where the one endpoint of these tests that answers is found.
var address = netip.MustParseAddr("192.0.2.9")

// rounds makes tries at endpoints, where names are those of names.
type rounds struct {
	names   map[string][]netip.Addr
	dialled []string
	located map[string][]netip.Addr
	events  chan dialEvent
	try     *try
}

func newRounds(endpoints []config.Endpoint, names map[string][]netip.Addr) *rounds {
	r := &rounds{names: names, located: map[string][]netip.Addr{}, events: make(chan dialEvent, 64)}
	r.try = &try{endpoints: endpoints, reachable: reachable, lookup: r.lookup, dial: r.dial, events: r.events, located: r.locate}
	return r
}

func (r *rounds) locate(name string, addrs []netip.Addr) { r.located[name] = addrs }

func reachable(a netip.Addr) error {
	if a.Is4() && a.As4()[0] == 10 {
		return errors.New("a route covers it")
	}
	return nil
}

func (r *rounds) lookup(_ context.Context, _, host string) ([]netip.Addr, error) {
	if r.names[host] == nil {
		return nil, errors.New("no such host")
	}
	return r.names[host], nil
}

func (r *rounds) dial(_ context.Context, _ *keys.Identity, to netip.AddrPort, _ keys.PublicKey, _ func(session.State)) (*session.Conn, error) {
	r.dialled = append(r.dialled, to.String())
	if to.Addr() != address {
		return nil, errors.New("connection refused")
	}
	return &session.Conn{}, nil
}

// run makes one round and returns the addresses that were dialled, and the outcome.
func (r *rounds) run(ctx context.Context) (dialled []string, end dialEvent) {
	r.dialled = nil
	r.try.run(ctx)
	for !end.end {
		end = <-r.events
	}
	return r.dialled, end
}

func TestEndpointsAreTriedInTurnWithAllTheirAddresses(t *testing.T) {
	endpoints := []config.Endpoint{
		{Host: "nowhere.example", Port: 1}, {Host: "10.0.0.1", Port: 2}, {Host: "many.example", Port: 3}, {Host: "192.0.2.99", Port: 4},
	}
	names := map[string][]netip.Addr{"many.example": {
		netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:192.0.2.8"), address, netip.MustParseAddr("192.0.2.10"),
	}}
	r := newRounds(endpoints, names)
	dialled, end := r.run(t.Context())
	if want := []string{"[2001:db8::1]:3", "192.0.2.8:3", "192.0.2.9:3"}; !slices.Equal(dialled, want) {
		t.Errorf("dialled %v, want %v", dialled, want)
	}
	if !reflect.DeepEqual(r.located, names) {
		t.Errorf("located %v", r.located)
	}
	if end.err != nil || end.conn == nil || end.endpoint != "many.example:3" {
		t.Errorf("%+v", end)
	}
	delete(names, "many.example")
	_, end = r.run(t.Context())
	for _, word := range []string{"nowhere.example:1: resolve: no such host", "10.0.0.1:2: a route covers it", "many.example:3: resolve", "192.0.2.99:4: connection refused"} {
		if end.err == nil || !strings.Contains(end.err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, end.err)
		}
	}
}

// A name is looked up in each round anew: what it was before does not matter.
func TestNamesAreResolvedAgainAtEveryTry(t *testing.T) {
	endpoints := []config.Endpoint{{Host: "moving.example", Port: 7900}}
	names := map[string][]netip.Addr{"moving.example": {netip.MustParseAddr("192.0.2.1")}}
	r := newRounds(endpoints, names)
	if dialled, end := r.run(t.Context()); end.err == nil || !slices.Equal(dialled, []string{"192.0.2.1:7900"}) {
		t.Errorf("dialled %v: %+v", dialled, end)
	}
	names["moving.example"] = []netip.Addr{address}
	if dialled, end := r.run(t.Context()); end.err != nil || !slices.Equal(dialled, []string{"192.0.2.9:7900"}) {
		t.Errorf("dialled %v: %+v", dialled, end)
	}
}
