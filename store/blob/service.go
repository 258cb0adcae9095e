package blob

import (
	gcblob "gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// Service is what gocloud.dev/blob does not offer for all services alike. Each
// package below this one exports the Service of one. The zero value knows no
// service: it replaces nothing (Put with IfVersion and Remove are
// errors.ErrUnsupported), and Open makes two requests.
type Service struct {
	// Reader tells what the reply behind r says of the whole object. ok is false
	// if it does not tell the version.
	Reader func(r *gcblob.Reader) (o Object, ok bool)

	// Version returns the version of an object from its attributes; nil takes the
	// ETag. Listed returns the same version from a listing, "" if it is not there.
	Version func(a *gcblob.Attributes) string
	Listed  func(o *gcblob.ListObject) string

	// Write prepares an upload, with the hook of gocloud's WriterOptions.BeforeWrite.
	// The function it returns, if not nil, is called after an upload that
	// succeeded and returns the new object's version, "" if it does not know.
	Write func(bucket *gcblob.Bucket, as func(any) bool, w Write) (version func() string, err error)

	// Remove makes a removal conditional, with the hook of gocloud's
	// DeleteOptions.BeforeDelete.
	Remove func(as func(any) bool, version string) error

	// Error tells the code of an error that gocloud calls Unknown or misjudges,
	// else Unknown, and in one line without secrets what happened, else "". Of
	// NotFound it says nothing if it is the object that is missing.
	Error func(err error) (code gcerrors.ErrorCode, msg string)

	// SingleWriter replaces the service's conditions by our own: the Store
	// compares versions itself, under a lock of its own, right before it
	// publishes. That is for services that do not know conditions, and safe only
	// while nobody but this one Store writes to the bucket.
	SingleWriter bool
}

// Object is what a service says of an object.
type Object struct {
	Version string
	Meta    map[string]string // keys in lower case
}

// Write is what Service.Write has to arrange.
type Write struct {
	IfVersion   string // replace this version only; "" is no condition
	PartSize    int64  // of a multi-part upload
	Concurrency int    // parts sent at a time

	// Take, if not nil, takes the object's bytes out of the upload, which is empty
	// from then on: for a client that would copy a body whose length it does not
	// know, and can be given one in another way.
	Take func() []byte
}

// conditional reports whether the service can replace one version only.
func (s *Service) conditional() bool { return s.Write != nil || s.SingleWriter }

func (s *Service) version(a *gcblob.Attributes) string {
	if s.Version != nil {
		return s.Version(a)
	}
	return a.ETag
}

func (s *Service) listed(o *gcblob.ListObject) string {
	if s.Listed != nil {
		return s.Listed(o)
	}
	return ""
}
