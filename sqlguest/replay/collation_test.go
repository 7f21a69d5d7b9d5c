package replay_test

import (
	"strings"
	"testing"

	"holdfast/sqlguest/lab"
	"holdfast/sqlguest/plan"
)

// TestNamesAreTheServersToCompare: SQL-5. On a server with a case-sensitive collation a
// restore as SALES leaves sales alone; on any other it means sales.
func TestNamesAreTheServersToCompare(t *testing.T) {
	for _, collation := range []string{"Latin1_General_CS_AS", "Latin1_General_100_BIN2_UTF8"} {
		w := newWorldOn(t, lab.Options{Collation: collation})
		w.live()
		if i := w.restore(w.instance, plan.Target{}, plan.Options{As: "SALES", Replace: true, Kick: true}); i.Tail != "" {
			t.Errorf("%s: a tail was taken of another database", collation)
		}
		w.want("SALES", "full log mark behind diff last")
		w.wantState("sales", "ONLINE MULTI_USER")
		w.add(30, "still open")
		w.want("sales", "full log mark behind diff last tail still open")
		p, err := w.job(w.instance, plan.Target{}, plan.Options{As: "Sales"}).Preview(t.Context())
		w.must(err)
		for _, s := range p.Plan.Steps {
			for _, m := range s.Moves {
				if strings.EqualFold(m.To, `C:\Data\sales.mdf`) {
					t.Errorf("%s: %s goes to a file of sales", collation, m.File)
				}
			}
		}
	}
	w := newWorld(t)
	w.live()
	p, err := w.job(w.instance, plan.Target{}, plan.Options{As: "SALES"}).Preview(t.Context())
	if err != nil || p.Err() == nil || !strings.Contains(p.Err().Error(), "P-exists") {
		t.Errorf("collation without case: %v, %v", err, p)
	}
}
