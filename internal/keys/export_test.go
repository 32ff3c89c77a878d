package keys

// SetLimit lets a test reach the limit of the indexes quickly.
func (x *Indexes) SetLimit(limit int) { x.limit = limit }
