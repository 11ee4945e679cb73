/* /bin/true, to be linked statically: the least that a process costs. */
int
main(void)
{
	return 0;
}
