# `perl libraries.pl LIBRARY plain PORT PREFIX`: a client library in Perl does SET, GET, INCR, HSET, HGET, a pipeline.
use strict;
use warnings;

my $PIPED = 10;
my ($name, undef, $port, $prefix) = @ARGV;

# Each library: how a command is called, and how ten INCRs of a key are sent without waiting for answers.
sub of_redis {    # Redis and Redis::Fast have the same methods
    my $client = $_[0]->new(server => "127.0.0.1:$port");
    my $call = sub { my ($command, @words) = @_; $client->$command(@words) };
    my $pipe = sub {
        my ($key, @answers) = @_;
        $client->incr($key, sub { push @answers, $_[0] }) for 1 .. $PIPED;
        $client->wait_all_responses;
        return @answers;
    };
    return ($call, $pipe);
}

my %libraries = (
    'Redis' => sub { require Redis; of_redis('Redis') },
    'Redis::Fast' => sub { require Redis::Fast; of_redis('Redis::Fast') },
    'AnyEvent::Redis' => sub {
        require AnyEvent::Redis;
        my $client = AnyEvent::Redis->new(host => '127.0.0.1', port => $port);
        my $call = sub { my ($command, @words) = @_; $client->$command(@words)->recv };
        my $pipe = sub { my $key = shift; map { $_->recv } map { $client->incr($key) } 1 .. $PIPED };
        return ($call, $pipe);
    },
);

sub expect {
    my ($wanted, $got) = @_;
    die "wanted $wanted, got " . ($got // 'nothing') unless defined $got && $got eq $wanted;
}

my ($call, $pipe) = $libraries{$name}->();
$call->('set', "$prefix:string", 'value');
expect('value', scalar $call->('get', "$prefix:string"));
expect(1, scalar $call->('incr', "$prefix:counter"));
expect(2, scalar $call->('incr', "$prefix:counter"));
$call->('hset', "$prefix:hash", 'field', 'value');
expect('value', scalar $call->('hget', "$prefix:hash", 'field'));
expect(join(' ', 1 .. $PIPED), join(' ', $pipe->("$prefix:piped")));
print "ok piped\n";
