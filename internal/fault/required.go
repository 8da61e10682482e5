package fault

import "errors"

// Required returns an error that names a setting, unless it is given. Its kind is Internal: only a
// mistake in the program leaves such a setting out.
func Required(name string, given bool) error {
	if given {
		return nil
	}
	return errors.New(name + " is required")
}
