package daemon

import (
	"tund/internal/config"
	"tund/internal/handover"
	"tund/internal/sdnotify"
)

// shelve sorts the descriptors that this process was started with.
func (d *Daemon) shelve(all []sdnotify.Descriptor) {
	shelf, records, others := handover.NewShelf(d.log, d.notify, all)
	d.shelf, d.records = shelf, records
	for _, o := range others {
		d.log.Warn("descriptor discarded", "from", o.Name, "reason", "it is of no use here")
		_ = o.File.Close()
	}
}

// takeOver finds out what an earlier tund has left, and for whom, by name of the peer. It
// comes when nothing can keep this one from its work any more: a record is used up by it.
func (d *Daemon) takeOver(cfg *config.Config) map[string]*handover.Inherited {
	record := d.takeRecord()
	left := make(map[string]*handover.Inherited)
	var claimed []uint32
	for _, p := range cfg.Peers {
		if !p.Enabled || d.node.Held(p.Name) != "" {
			continue
		}
		if t, ok := d.shelf.Claim(p.Interface, p.Mode); ok {
			left[p.Name] = record.Inherited(t)
			claimed = append(claimed, t.Number)
		}
	}
	for _, index := range record.WipeRest(claimed) {
		d.node.indexes.Rest(index)
	}
	d.shelf.DiscardRest()
	return left
}

// takeRecord takes the record, if there is one that can be used, out of the world.
func (d *Daemon) takeRecord() *handover.Record {
	boot, err := handover.Boot()
	if err != nil {
		d.log.Error("boot not known", "err", err)
		boot = handover.NewID() // that of no record
	}
	record, err := handover.Take(d.records, boot)
	d.discardRecords()
	if err != nil {
		d.log.Warn("state not taken over", "err", err)
		return nil
	}
	if record == nil {
		return nil
	}
	d.log.Info("state taken over", "record", record.ID.String(), "version", record.Version, "count", len(record.Peers))
	for _, index := range record.Resting {
		d.node.indexes.Rest(index)
	}
	return record
}

// discardRecords removes all records from the store. They are overwritten by now: if it fails
// the next tund finds nothing in them.
func (d *Daemon) discardRecords() {
	if len(d.records) == 0 {
		return
	}
	if err := d.notify.Unstore(handover.RecordName); err != nil {
		d.log.Error("descriptor not removed from the store", "err", err)
	}
	for _, f := range d.records {
		_ = f.Close()
	}
	d.records = nil
}
