package daemon

import (
	"context"
	"sync"

	"tund/internal/vmgen"
)

// watchGeneration renews everything when this virtual machine was cloned or set back.
func (d *Daemon) watchGeneration(ctx context.Context) {
	watch := d.o.Generation
	if watch == nil {
		watch = vmgen.Watch
	}
	if err := watch(ctx, d.log, func() { d.renew(ctx) }); err != nil {
		d.log.Warn("clones of this machine go unnoticed", "err", err)
	}
}

// renew ends all that the copy has as well: the instance, connections, sessions and keys. The
// kernel has seeded its random numbers anew by then, from which all new ones come.
func (d *Daemon) renew(ctx context.Context) {
	d.log.Warn("virtual machine was cloned or set back: all sessions and keys are renewed")
	d.node.renew()
	d.gates.options.Admission.EvictAll()
	var wg sync.WaitGroup
	for _, m := range d.all() {
		wg.Go(func() { _ = m.Renew(ctx) }) // ends with ctx, or with the peer
	}
	wg.Wait()
}
