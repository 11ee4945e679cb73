#!/usr/bin/perl
# Classic CGI in Perl, under fcgiwrap.
use strict;
use warnings;
use Digest::SHA qw(hmac_sha256_base64);
use Fcntl;
use IO::Handle;
use MIME::Base64;

my ($directory, $secret) = @ENV{qw(BENCH_DIRECTORY BENCH_SECRET)};
my ($id, $when, $signatures) = @ENV{map { "HTTP_WEBHOOK_$_" } qw(ID TIMESTAMP SIGNATURE)};
read(STDIN, my $body, $ENV{CONTENT_LENGTH});
my $expected = 'v1,' . hmac_sha256_base64("$id.$when.$body", decode_base64(substr($secret, 6))) . '=';
if (!grep({ $_ eq $expected } split(/ /, $signatures)) || abs(time - $when) > 300) {
    print "Status: 401 Unauthorized\r\n\r\n";
    exit;
}
(my $name = $id) =~ s/([^A-Za-z0-9_-])/sprintf('%%%02X', ord($1))/ge;
my ($draft, $file) = ("$directory/.$$", "$directory/$name.json");
if (!-e $file) {
    sysopen(my $out, $draft, O_WRONLY | O_CREAT | O_EXCL, 0640) or die;
    syswrite($out, $body);
    $out->sync or die;
    close($out);
    link($draft, $file);
    unlink($draft);
    sysopen($out, $directory, O_RDONLY) or die;
    $out->sync or die;
}
print "Status: 200 OK\r\nContent-Type: application/json\r\n\r\n{}\n";
