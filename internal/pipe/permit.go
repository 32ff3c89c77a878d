package pipe

// Role says which end of the conversation a [Conn] is.
type Role uint8

// The two roles.
const (
	Parent Role = 1
	Child  Role = 2
)

// maySend is the table of who may send what. It holds every type of the catalogue.
func maySend(r Role, t Type) bool {
	switch t {
	case TypeHello, TypeKeyState:
		return r == Parent || r == Child
	case TypeConfigure, TypeInstallKey, TypeInstallIV, TypeActivate, TypeRetire, TypeDrop, TypeDisplace,
		TypeWipe, TypeGetStats, TypeSendProbe, TypeStop, TypeHandOver, TypeResume:
		return r == Parent
	case TypeConfigured, TypeInstalled, TypeKeyActive, TypeDisplaced, TypeWiped, TypeStats, TypeProbeResult,
		TypeRekeyDue, TypeUrgent, TypeFatal, TypeHandedOver, TypeResumed:
		return r == Child
	}
	return false
}

// other is the role at the far end.
func (r Role) other() Role {
	if r == Parent {
		return Child
	}
	return Parent
}

// maxBody bounds a message's body. Only a configuration grows with what an
// administrator writes; everything else is small, so that a child which was taken
// over cannot make its parent hold much memory.
func maxBody(t Type) int {
	switch t {
	case TypeConfigure:
		return maxFrame - 1
	case TypeKeyState:
		return maxKeyState
	default:
		return 2 * maxText
	}
}
