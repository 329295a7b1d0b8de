from nolabel.cli.app import main

main()
