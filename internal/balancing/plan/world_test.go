package plan_test

import (
	"time"

	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

func busyError(now time.Time) error {
	return &cloud.BusyError{Until: now.Add(time.Second), Operation: "ModifyRule"}
}
