package vmgen

import (
	"bytes"
)

// changed tells whether a kernel event, as it comes from the socket, says that the machine
// has another generation: ACTION@DEVPATH, then KEY=VALUE, each with a zero byte at its end.
func changed(event []byte) bool {
	head, rest, found := bytes.Cut(event, []byte{0})
	if !found || !bytes.HasPrefix(head, []byte("change@/")) || !bytes.HasSuffix(rest, []byte{0}) {
		return false
	}
	seen := make(map[string]string)
	for field := range bytes.SplitSeq(bytes.TrimSuffix(rest, []byte{0}), []byte{0}) {
		key, value, found := bytes.Cut(field, []byte("="))
		if _, twice := seen[string(key)]; !found || twice {
			return false
		}
		seen[string(key)] = string(value)
	}
	return seen["ACTION"] == "change" && seen["NEW_VMGENID"] == "1" &&
		"change@"+seen["DEVPATH"] == string(head)
}
