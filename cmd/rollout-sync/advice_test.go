package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

// What a mirror's refusal advises is about its cause.
func TestAdvice(t *testing.T) {
	t.Parallel()
	a := app{remote: "s3://bucket/"}
	for err, want := range map[error]string{
		fmt.Errorf("put x: %w: Access Denied (AccessDenied)", fs.ErrPermission):                       "check the credentials",
		fmt.Errorf("put x: %w: The difference is too large (RequestTimeTooSkewed)", fs.ErrPermission): "clock",
		fmt.Errorf("put x: %w: No such bucket (NoSuchBucket)", fs.ErrNotExist):                        "check the bucket's name",
		errors.New("put x: it is Monday"):                                                             "Monday",
	} {
		if got := a.advised(err).Error(); !strings.HasPrefix(strings.TrimPrefix(got, "mirror s3://bucket/: "), "put x: ") || !strings.Contains(got, want) {
			t.Errorf("%v: no %q in %q", err, want, got)
		}
	}
}
