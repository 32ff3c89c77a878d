package tuntap

// ForgetNowait makes p behave as on a kernel before 6.4.
func ForgetNowait(p *Port) { p.noFlag = true }

// ReadHeader lets a test see what the last Read found before the packet.
func ReadHeader(p *Port) []byte { return p.in.header[:] }
