package replay

import (
	"strconv"
	"strings"
)

// rules are in what versions of Codex differ when they go on with a session. All
// were observed: with 0.20, 0.98, 0.118, 0.150 and 0.169; which of the versions between
// two of these was the first to do otherwise was not looked for.
type rules struct {
	// A rollback takes back turns from what the newest compaction left of them, and
	// never the compaction (0.98).
	keepsCompactions bool
	// If a rollback took back all compactions, what is in front of them is lost
	// (0.118 to 0.150). From 0.169 on it is there again.
	losesWithCompactions bool
	// The summary of a compaction is no turn for a rollback (from 0.169 on).
	summaryIsNoTurn bool
	// A rollback leaves the context that is told in front of a turn (0.98).
	keepsContext bool
	// Outputs of tools are cut once more, mark and all (0.98).
	cutsTwice bool
	// Items are sent with their ids (0.20, and from 0.150 on).
	sendsIDs bool
	// What a compaction keeps of what the user said keeps its id, and if it was cut
	// is in three parts (from 0.169 on).
	keepsSaid bool
}

// rulesOf returns the rules of a version, "" being the newest.
func rulesOf(version string) rules {
	minor := 169
	if parts := strings.Split(version, "."); len(parts) > 1 {
		if n, err := strconv.Atoi(parts[1]); err == nil && parts[0] == "0" {
			minor = n
		}
	}
	return rules{
		keepsCompactions:     minor < 118,
		losesWithCompactions: minor >= 118 && minor < 169,
		summaryIsNoTurn:      minor >= 169,
		keepsContext:         minor < 118,
		cutsTwice:            minor < 118,
		sendsIDs:             minor >= 150 || minor < 34,
		keepsSaid:            minor >= 169,
	}
}
