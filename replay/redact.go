package replay

import (
	"iter"
	"regexp"
	"slices"
	"strings"
)

// Redact masks in the texts of entries what looks like one of the secrets that
// [RedactText] knows. It works on what the texts say, before a format escapes
// anything. Images are left as they are.
func Redact(entries iter.Seq2[Entry, error]) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for e, err := range entries {
			e.texts(func(s *string) { *s = RedactText(*s) })
			if !yield(e, err) {
				return
			}
		}
	}
}

// RedactText replaces what looks like a secret by a word in brackets, such as
// [redacted: github token]. It finds them in JSON within the text as well.
//
// It is a help, not a promise. It knows the shapes of the keys of some providers of
// models, clouds and tools, private keys, JSON web tokens, Authorization headers
// and passwords in URLs, and nothing else: no password that stands alone, nothing
// that is encoded, split or in an image. Read what you publish.
func RedactText(s string) string {
	s = redactPrivateKeys(s)
	for _, r := range redactRules {
		if slices.ContainsFunc(r.keys, func(key string) bool { return strings.Contains(s, key) }) {
			s = r.shape.ReplaceAllString(s, "${1}[redacted: "+r.what+"]${2}")
		}
	}
	return s
}

// A redactRule is a shape that secrets have. What the groups "${1}" and "${2}"
// match stays.
type redactRule struct {
	what  string
	shape *regexp.Regexp
	keys  []string // one of them is in every text with a match; they are found faster
}

// before is what may stand in front of a token that has no characters around it
// to be known by: in JSON also the letter of an escaped line end.
const before = `(^|[^A-Za-z0-9_-]|\\[bfnrt])`

func token(what, shape string, keys ...string) redactRule {
	return redactRule{what, regexp.MustCompile(before + shape + `()`), keys}
}

// redactRules are from what the providers say of their tokens, and else from
// tokens as they are handed out. The first that matches names the secret.
var redactRules = []redactRule{
	token("age key", `AGE-SECRET-KEY-1[A-Z0-9]{50,}`, "AGE-SECRET-KEY-1"), // age-encryption.org/v1

	// Models.
	token("anthropic key", `sk-ant-[A-Za-z0-9_-]{16,}`, "sk-ant-"),
	token("openai key", `sk-[A-Za-z0-9_-]{20,}`, "sk-"), // OpenRouter, DeepSeek and others too
	token("hugging face token", `hf_[A-Za-z0-9]{30,}`, "hf_"),
	token("groq key", `gsk_[A-Za-z0-9]{40,}`, "gsk_"),
	token("xai key", `xai-[A-Za-z0-9]{40,}`, "xai-"),
	token("perplexity key", `pplx-[A-Za-z0-9]{40,}`, "pplx-"),
	token("replicate token", `r8_[A-Za-z0-9]{37,}`, "r8_"),

	// Clouds. docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
	token("aws key", `(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16,}`, "AKIA", "ASIA", "ABIA", "ACCA"),
	{
		"aws secret", regexp.MustCompile(`(?i)(aws.?secret.?(?:access.?)?key(?:\\*["']|\s)*[:=](?:\\*["']|\s)*)[A-Za-z0-9/+]{40,}()`),
		[]string{"ecret", "ECRET"},
	},
	token("google key", `AIza[A-Za-z0-9_-]{35,}`, "AIza"),
	token("google token", `ya29\.[A-Za-z0-9._-]{20,}`, "ya29."),
	token("google secret", `GOCSPX-[A-Za-z0-9_-]{20,}`, "GOCSPX-"),
	{"azure key", regexp.MustCompile(`((?:Account|SharedAccess)Key=)[A-Za-z0-9+/]{40,}={0,2}()`), []string{"Key="}},
	token("digitalocean token", `do[opr]_v1_[a-f0-9]{64,}`, "_v1_"),
	token("vault token", `hv[sbr]\.[A-Za-z0-9_-]{24,}`, "hvs.", "hvb.", "hvr."),
	token("databricks token", `dapi[a-f0-9]{32,}(?:-\d)?`, "dapi"),

	// Code. github.blog/engineering/behind-githubs-new-authentication-token-formats,
	// docs.gitlab.com/security/tokens
	token("github token", `(?:gh[opsur]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})`, "gho_", "ghp_", "ghs_", "ghu_", "ghr_", "github_pat_"),
	token("gitlab token", `gl(?:pat|oas|dt|rt|cbt|ptt|ft|imt|agent|soat|ffct)-[A-Za-z0-9_.-]{20,}`, "gl"),
	token("npm token", `npm_[A-Za-z0-9]{36,}`, "npm_"),
	token("pypi token", `pypi-[A-Za-z0-9_-]{50,}`, "pypi-"),
	token("docker token", `dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}`, "dckr_"),

	// Services.
	token("slack token", `xox[a-z]-[A-Za-z0-9-]{10,}`, "xox"), // api.slack.com/concepts/token-types
	token("slack token", `xapp-[A-Za-z0-9-]{10,}`, "xapp-"),
	{"slack webhook", regexp.MustCompile(`(hooks\.slack\.com(?:\\?/)(?:services|workflows|triggers)\\?/)[A-Za-z0-9+/\\]{20,}()`), []string{"hooks.slack.com"}},
	token("stripe key", `(?:[sr]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{24,})`, "k_live_", "k_test_", "whsec_"),
	token("sendgrid key", `SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}`, "SG."),
	token("telegram token", `\d{8,12}:AA[A-Za-z0-9_-]{32,}`, ":AA"),

	// RFC 7519: two JSON objects and a signature, in base64url.
	token("json web token", `eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*`, "eyJ"),
	// RFC 9110 §11.6.2, as a header or in JSON.
	{
		"authorization", regexp.MustCompile(`(?i)(authorization(?:\\*["'])?\s*[:=]\s*(?:\\*["'])?(?:bearer|basic|token|apikey)\s+)[A-Za-z0-9._~+/=-]{6,}()`),
		[]string{"uthorization", "UTHORIZATION"},
	},
	// RFC 3986 §3.2.1.
	{"password", regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*:(?:\\?/){2}[^\s/:@"'\\<>]*:)[^\s/@"'\\<>]+(@)`), []string{"@"}},
}

// Private keys: RFC 7468, and RFC 9580 §6.2.
var (
	keyBegin = regexp.MustCompile(`-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----`)
	keyEnd   = regexp.MustCompile(`-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----`)
	keyBody  = regexp.MustCompile(`^(?:\s|\\+[nr]|[A-Za-z0-9+/=]{16,})*`) // of a key that is cut off
)

// maxPrivateKey is how far from its beginning a key's end is looked for.
const maxPrivateKey = 16 << 10

func redactPrivateKeys(s string) string {
	var b strings.Builder
	for {
		begin := keyBegin.FindStringIndex(s)
		if begin == nil {
			break
		}
		rest := s[begin[1]:]
		end := keyEnd.FindStringIndex(rest[:min(len(rest), maxPrivateKey)])
		if end == nil {
			end = keyBody.FindStringIndex(rest)
		}
		b.WriteString(s[:begin[0]] + "[redacted: private key]")
		s = rest[end[1]:]
	}
	if b.Len() == 0 {
		return s
	}
	return b.String() + s
}
