// `libraries LIBRARY plain|cluster PORT PREFIX`: a client library in Go does SET, GET, INCR, HSET, HGET, a pipeline.
//
// Debian has these libraries as sources: GO111MODULE=off GOPATH=/usr/share/gocode go build libraries.go
package main

import (
	"fmt"
	"os"

	"github.com/gomodule/redigo/redis"
	"github.com/mna/redisc"
	redis2 "gopkg.in/redis.v2"
	redis5 "gopkg.in/redis.v5"
)

const piped = 10

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func expect[T comparable](wanted, got T, err error) {
	must(err)
	if wanted != got {
		must(fmt.Errorf("wanted %v, got %v", wanted, got))
	}
}

// Each function is one library, and tells whether it has sent a pipeline. ofRedigo drives one connection, or with cluster a connection that finds the node of each key.
func ofRedigo(address, prefix string, cluster bool) bool {
	connect := func() redis.Conn {
		connection, err := redis.Dial("tcp", address)
		must(err)
		return connection
	}
	if cluster {
		nodes := &redisc.Cluster{StartupNodes: []string{address}}
		must(nodes.Refresh())
		connect = func() redis.Conn {
			connection, err := redisc.RetryConn(nodes.Get(), 3, 0)
			must(err)
			return connection
		}
	}
	do := func(name string, words ...any) (any, error) { return connect().Do(name, words...) }
	_, err := do("SET", prefix+":string", "value")
	must(err)
	text, err := redis.String(do("GET", prefix+":string"))
	expect("value", text, err)
	for wanted := 1; wanted <= 2; wanted++ {
		count, err := redis.Int(do("INCR", prefix+":counter"))
		expect(wanted, count, err)
	}
	_, err = do("HSET", prefix+":hash", "field", "value")
	must(err)
	text, err = redis.String(do("HGET", prefix+":hash", "field"))
	expect("value", text, err)
	if !cluster { // a RetryConn has no pipelines
		pipeline := connect()
		for sent := 0; sent < piped; sent++ {
			must(pipeline.Send("INCR", prefix+":piped"))
		}
		must(pipeline.Flush())
		for place := 1; place <= piped; place++ {
			count, err := redis.Int(pipeline.Receive())
			expect(place, count, err)
		}
	}
	return !cluster
}

func ofGoRedis2(address, prefix string, cluster bool) bool {
	client := redis2.NewTCPClient(&redis2.Options{Addr: address})
	must(client.Set(prefix+":string", "value").Err())
	text, err := client.Get(prefix + ":string").Result()
	expect("value", text, err)
	for wanted := int64(1); wanted <= 2; wanted++ {
		count, err := client.Incr(prefix + ":counter").Result()
		expect(wanted, count, err)
	}
	must(client.HSet(prefix+":hash", "field", "value").Err())
	text, err = client.HGet(prefix+":hash", "field").Result()
	expect("value", text, err)
	pipeline := client.Pipeline()
	for sent := 0; sent < piped; sent++ {
		pipeline.Incr(prefix + ":piped")
	}
	answers, err := pipeline.Exec()
	must(err)
	for place, answer := range answers {
		expect(int64(place+1), answer.(*redis2.IntCmd).Val(), answer.Err())
	}
	return true
}

func ofGoRedis5(address, prefix string, cluster bool) bool {
	var client interface {
		redis5.Cmdable
	} = redis5.NewClient(&redis5.Options{Addr: address})
	if cluster {
		client = redis5.NewClusterClient(&redis5.ClusterOptions{Addrs: []string{address}})
	}
	must(client.Set(prefix+":string", "value", 0).Err())
	text, err := client.Get(prefix + ":string").Result()
	expect("value", text, err)
	for wanted := int64(1); wanted <= 2; wanted++ {
		count, err := client.Incr(prefix + ":counter").Result()
		expect(wanted, count, err)
	}
	must(client.HSet(prefix+":hash", "field", "value").Err())
	text, err = client.HGet(prefix+":hash", "field").Result()
	expect("value", text, err)
	answers, err := client.Pipelined(func(pipeline *redis5.Pipeline) error {
		for sent := 0; sent < piped; sent++ {
			pipeline.Incr(prefix + ":piped")
		}
		return nil
	})
	must(err)
	for place, answer := range answers {
		expect(int64(place+1), answer.(*redis5.IntCmd).Val(), answer.Err())
	}
	return true
}

func main() {
	name, cluster, address, prefix := os.Args[1], os.Args[2] == "cluster", "127.0.0.1:"+os.Args[3], os.Args[4]
	libraries := map[string]func(string, string, bool) bool{"redigo": ofRedigo, "redis.v2": ofGoRedis2, "redis.v5": ofGoRedis5}
	if libraries[name](address, prefix, cluster) {
		fmt.Println("ok piped")
	} else {
		fmt.Println("ok")
	}
}
