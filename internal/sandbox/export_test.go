package sandbox

// CheckStatus is what Enter asks of each thread.
var CheckStatus = checkStatus
