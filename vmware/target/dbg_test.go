package target

import ("testing";"context";"holdfast/vmware/lab";"holdfast/vmware")
func TestDbg(t *testing.T){
 l,_:=lab.Start(context.Background(),lab.Options{}); defer l.Close()
 s,err:=vmware.Connect(context.Background(), vmware.Options{URL:l.URL().String(),User:l.User(),Password:[]byte(l.Password()),Insecure:true}); if err!=nil{t.Fatal(err)}
 defer s.Close()
 w,err:=readWorld(context.Background(),s); if err!=nil{t.Fatal(err)}
 for _,r:=range w.order{t.Log(r, w.path(r), w.entities[r].Parent)}
}
