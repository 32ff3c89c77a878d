package session

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// AbortReason says why an exchange was given up.
type AbortReason uint8

// The reasons on the wire. An unknown one is taken as it is.
const (
	AbortTimeout   AbortReason = iota + 1 // no progress for too long
	AbortPSK                              // the pre-shared keys differ; never a fall-back to none
	AbortConfirm                          // the tag is wrong though no pre-shared key is in use
	AbortInstall                          // the sender's child did not take the key
	AbortEpoch                            // an epoch or generation that does not follow
	AbortCrypto                           // a public key or ciphertext that does not work
	AbortGone                             // the exchange was over when its reply came
	AbortResources                        // no index, or no more keys can be held
)

var abortNames = map[AbortReason]string{
	AbortTimeout: "timeout", AbortPSK: "psk", AbortConfirm: "confirm", AbortInstall: "install",
	AbortEpoch: "epoch", AbortCrypto: "crypto", AbortGone: "gone", AbortResources: "resources",
}

// String gives the name used in logs.
func (r AbortReason) String() string {
	if name, ok := abortNames[r]; ok {
		return name
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// CloseCode says why a session ended.
type CloseCode uint8

// The codes on the wire. An unknown one is taken as it is.
const (
	CloseShutdown   CloseCode = iota + 1 // the answer to SHUTDOWN
	CloseProtocol                        // a message that is malformed or not permitted
	CloseVersion                         // no protocol version in common
	CloseMode                            // tun here, tap there
	CloseAEAD                            // no AEAD in common
	CloseSelf                            // connected to oneself
	CloseDuplicate                       // another session of the same two nodes goes on; no failure
	CloseTimeout                         // an exchange stood still after its reply
	CloseStayDown                        // the receiver was asked to stay down, see SHUTDOWN
	CloseRemoved                         // the sender no longer has the receiver as a peer
	CloseReplaced                        // the sender's identity or session is replaced by a new one
	CloseConfirm                         // the key schedules of the two ends have parted
	CloseInternal                        // the sender cannot go on
	CloseDisabled                        // the tunnel is disabled or down at the sender
	CloseUnknownKey                      // the sender has no peer with the receiver's public key
	CloseLimit                           // the receiver has sent more than it may, or has too many sessions
	CloseSameKey                         // another machine with the receiver's key has a session
)

var closeNames = map[CloseCode]string{
	CloseShutdown: "shutdown", CloseProtocol: "protocol", CloseVersion: "version", CloseMode: "mode",
	CloseAEAD: "aead", CloseSelf: "self", CloseDuplicate: "duplicate", CloseTimeout: "timeout",
	CloseStayDown: "stay-down", CloseRemoved: "removed", CloseReplaced: "replaced",
	CloseConfirm: "confirm", CloseInternal: "internal", CloseDisabled: "disabled",
	CloseUnknownKey: "unknown-key", CloseLimit: "limit",
	CloseSameKey: "same-key",
}

// String gives the name used in logs.
func (c CloseCode) String() string {
	if name, ok := closeNames[c]; ok {
		return name
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// CloseError is the end of a session by a CLOSE, from either side.
type CloseError struct {
	Code   CloseCode
	Text   string
	Remote bool // the peer sent it
}

func (e *CloseError) Error() string {
	who := "session closed"
	if e.Remote {
		who = "session closed by peer"
	}
	if e.Text == "" {
		return fmt.Sprintf("%s: %s", who, e.Code)
	}
	return fmt.Sprintf("%s: %s: %s", who, e.Code, e.Text)
}

// AbortError is the end of an exchange that did not succeed.
type AbortError struct {
	Reason AbortReason
	Text   string
	Remote bool // the peer sent it
}

func (e *AbortError) Error() string {
	if e.Remote {
		return fmt.Sprintf("exchange aborted by peer: %s: %s", e.Reason, e.Text)
	}
	return fmt.Sprintf("exchange aborted: %s: %s", e.Reason, e.Text)
}

// fitText makes any text fit to be sent: printable, valid and not too long.
func fitText(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	for len(text) > maxText {
		_, n := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-n]
	}
	return text
}
