package sdnotify

// CanBequeath says whether a text names descriptors, and gives it as it would be written again.
func CanBequeath(text string) (again string, ok bool) {
	named, err := parseBequest(text)
	return formatBequest(named), err == nil
}
