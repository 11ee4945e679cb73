<?php
// PHP-FPM: one file per event, synced with its directory before the answer, each id once.
$directory = $_SERVER['BENCH_DIRECTORY'];
$id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
$when = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
$body = file_get_contents('php://input');
$key = base64_decode(substr($_SERVER['BENCH_SECRET'], strlen('whsec_')));
$expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$when.$body", $key, true));
$matches = array_filter(explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? ''),
    fn ($part) => hash_equals($expected, $part));
if (!$matches || abs(time() - (int) $when) > 300) {
    http_response_code(401);
    exit;
}
$file = "$directory/" . rawurlencode($id) . '.json';
if (!file_exists($file)) {
    $draft = "$directory/." . getmypid();
    $handle = fopen($draft, 'w');
    fwrite($handle, $body);
    fsync($handle);
    fclose($handle);
    rename($draft, $file);
    $handle = fopen($directory, 'r');
    fsync($handle);
    fclose($handle);
}
echo "{}\n";
