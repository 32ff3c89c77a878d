package lab

// Hasty makes the lab report at once what its nodes leave behind.
func (l *Lab) Hasty() { l.last = 0 }
