package desc

import "fmt"

// Direction names a way through a link.
type Direction uint8

// Directions.
const (
	Up   Direction = iota // from the listening side to the receiver
	Down                  // back
)

// String is the name in files and in the API.
func (d Direction) String() string {
	if d == Up {
		return "up"
	}
	return "down"
}

// ParseDirection reads up or down.
func ParseDirection(text string) (Direction, error) {
	switch text {
	case "up":
		return Up, nil
	case "down":
		return Down, nil
	}
	return 0, fmt.Errorf("%q is not up or down", clip(text))
}
