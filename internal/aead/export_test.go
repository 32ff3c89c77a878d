package aead

// Inner names that the tests use.
var (
	OpenFiles = openMultiBuffer
	Verify    = verify
)

// PreferredWith is Preferred on a CPU with or without instructions for AES.
var PreferredWith = preferred
