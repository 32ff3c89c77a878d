package pipe

// ReasonDeviceGone is the Fatal reason of a child whose device has been deleted: a
// new child alone would not help.
const ReasonDeviceGone = "device gone"
