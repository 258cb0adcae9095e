package vfs

import "os"

// OpenByElement is OpenOS as on a system that has nothing better.
func OpenByElement(dir string) (*OS, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &OS{root, byElement{root}}, nil
}
