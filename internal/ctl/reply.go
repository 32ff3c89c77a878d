package ctl

// reply is an object of the catalogue on its way out. complete fills in what is the
// same everywhere: the schema, and empty lists where there is none, for those who
// read the JSON expect a list.
type reply interface{ complete() }

// announcement is a reply that something follows, once it is on its way.
type announcement interface{ sent() }

func (v *Version) complete()    { v.Schema = Schema }
func (r *UpResult) complete()   { r.Schema = Schema }
func (r *ErrorReply) complete() { r.Schema = Schema }

func (r *StopKindResult) complete() { r.Schema = Schema }

func (r *RestartBegun) complete() { r.Schema, r.Result = Schema, "restarting" }

func (r *DownResult) complete() {
	r.Schema = Schema
	if r.State == "" {
		r.State = StateDown
	}
}

func (s *Status) complete() {
	s.Schema = Schema
	s.Node.Listen, s.Node.Missing = list(s.Node.Listen), list(s.Node.Missing)
	s.Peers = append([]PeerStatus{}, s.Peers...) // not the backend's own array
	for i := range s.Peers {
		s.Peers[i].Offload = list(s.Peers[i].Offload)
		s.Peers[i].Sandbox, s.Peers[i].SandboxLacks = list(s.Peers[i].Sandbox), list(s.Peers[i].SandboxLacks)
		s.Peers[i].Warnings, s.Peers[i].Missing = list(s.Peers[i].Warnings), list(s.Peers[i].Missing)
	}
}

func (r *Rotation) complete() {
	r.Schema = Schema
	r.Results = list(r.Results)
}

func (r *ReloadResult) complete() {
	r.Schema = Schema
	r.Errors, r.Missing, r.Node = list(r.Errors), list(r.Missing), list(r.Node)
	r.Peers = append([]ReloadPeer{}, r.Peers...) // not the backend's own array
	for i := range r.Peers {
		r.Peers[i].Missing, r.Peers[i].Changes = list(r.Peers[i].Missing), list(r.Peers[i].Changes)
	}
}

// list returns l, or an empty list for nil.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}
