package aead

// Inner names that the tests use.
var (
	OpenFiles = openMultiBuffer
	Verify    = verify
)
