package chain

// Settings are what of a database a restore does not bring back: SQL Server puts them
// to what is safe, and the restoring login becomes the owner. They are recorded when a
// backup is made.
type Settings struct {
	Owner       string `json:"owner,omitempty"`       // a login's name, "" if it is gone
	Access      string `json:"access,omitempty"`      // MULTI_USER, RESTRICTED_USER, SINGLE_USER
	ReadOnly    bool   `json:"read_only,omitempty"`   //
	Trustworthy bool   `json:"trustworthy,omitempty"` //
	Chaining    bool   `json:"db_chaining,omitempty"` // DB_CHAINING
	Broker      bool   `json:"broker,omitempty"`      // Service Broker delivers messages
	CDC         bool   `json:"cdc,omitempty"`         // change data capture
	Published   bool   `json:"published,omitempty"`   // in a replication
}
