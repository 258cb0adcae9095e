package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/rollout-sync/rollout/store"
)

// ErrSecret means that a file has the name of a rollout and is a database, a key or
// credentials. It is not pushed, and each push fails for it, so that somebody looks.
var ErrSecret = errors.New("no rollout")

// secretSize is how long a file of credentials can be. Codex 0.169 writes some 5 KiB
// into auth.json.
const secretSize = 64 << 10

// refuse returns ErrSecret if f is what secretIn knows.
func refuse(ctx context.Context, f store.File) error {
	head, err := headOf(ctx, f, secretSize+1)
	if err != nil {
		return err
	}
	if what := secretIn(head); what != "" {
		return fmt.Errorf("%w but %s, which is never pushed: move it out of the sessions", ErrSecret, what)
	}
	return nil
}

// headOf returns the first n bytes of f, or all if there are fewer.
func headOf(ctx context.Context, f store.File, n int64) ([]byte, error) {
	if held, ok := f.(*heldFile); ok {
		return held.bytes(0, n), nil
	}
	r, err := f.Range(ctx, 0, n)
	if err != nil {
		return nil, err
	}
	head, err := io.ReadAll(r)
	return head, errors.Join(err, r.Close())
}

// secretIn says what a file is that begins with p, if it is not a rollout, but what
// lies beside sessions on a machine and was copied, linked or renamed onto a rollout's
// name: a SQLite database, a key in PEM, or a single JSON object with credentials in
// it. Else it returns "".
//
// No rollout is taken for one of them, wherever it was cut or damaged at its end or
// its beginning: in lines of JSON no raw line break follows "-----" and no header of a
// database stands, and a file that is one object is no more than a record. So
// everything else that has a rollout's name is pushed as it is.
func secretIn(p []byte) string {
	switch {
	case isSQLite(p):
		return "an SQLite database"
	case pem.Match(p):
		return "a key or certificate"
	case len(p) <= secretSize && hasCredentials(p):
		return "a file of credentials"
	}
	return ""
}

// isSQLite reports whether p begins with the header of a database: its magic, and
// three numbers that the format fixes.
func isSQLite(p []byte) bool {
	return bytes.HasPrefix(p, []byte("SQLite format 3\x00")) && len(p) > 23 && bytes.Equal(p[21:24], []byte{64, 32, 32})
}

// pem is how PEM begins, of one kind or another.
var pem = regexp.MustCompile(`\A\s*-----BEGIN [A-Z0-9 ]+-----\r?\n`)

// record is how a rollout begins since Codex 0.34, of which the rest need not be looked at:
// an object that has a payload is none with credentials.
var record = regexp.MustCompile(`\A\{"timestamp":"[^"\\]*",("ordinal":[0-9]+,)?"type":"[^"\\]*","payload":`)

// hasCredentials reports whether p is a single JSON object with a member, or a member
// of a member, that is named as credentials are: auth.json and .credentials.json of
// Codex, and what clouds' tools keep. A record of a rollout never is.
func hasCredentials(p []byte) bool {
	var members map[string]json.RawMessage
	if record.Match(p) || json.Unmarshal(p, &members) != nil {
		return false
	}
	_, payload := members["payload"]
	_, state := members["record_type"]
	_, id := members["id"]
	_, at := members["timestamp"]
	if payload || state || id && at {
		return false
	}
	for name, value := range members {
		if isCredential(name) {
			return true
		}
		var inner map[string]json.RawMessage
		if json.Unmarshal(value, &inner) != nil {
			continue
		}
		for name := range inner {
			if isCredential(name) {
				return true
			}
		}
	}
	return false
}

var credentials = map[string]bool{
	"openaiapikey": true, "apikey": true, "accesstoken": true, "refreshtoken": true, "idtoken": true,
	"privatekey": true, "clientsecret": true, "secretaccesskey": true,
}

// isCredential reports whether a member of that name, in any spelling, holds a secret.
func isCredential(name string) bool {
	return credentials[strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))]
}
