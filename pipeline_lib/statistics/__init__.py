"""What runs with several seeds say of the methods: intervals, paired tests, power, agreement."""
