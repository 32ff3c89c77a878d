package tuntap

// ForgetNowait makes p behave as on a kernel before 6.4.
func ForgetNowait(p *Port) { p.noFlag = true }

// What Open tries and says.
var (
	Preferences = preferences
	Shortfall   = shortfall
	SetOffloads = setOffloads
)
